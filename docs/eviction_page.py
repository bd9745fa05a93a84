"""docs/eviction.md, from what `make bench ONLY=eviction` has left in benchmarks/results. Nothing is simulated here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "eviction.json"
NOTE = "<!-- Made by `make docs` from benchmarks/results/eviction.json and docs/eviction_page.py; change that instead. -->\n"

INTRO = """# Eviction policies side by side

All of this is simulated: what each policy would have kept in a memory of so many bytes, given as a share of the working set.
`make bench ONLY=eviction` computes it anew; `memgang evict --simulate` does the same with the log of your own space, or with
`--trace`.

- `report-runs` is the log of six runs of `memgang run` over the same documents with different questions. What its answers cost
  is what they took.
- The others are traces of other caches. Their keys are of one byte and have no costs: each costs 1 s, or a cost is drawn for it,
  lognormal (sigma 1.5) or Zipf. The tables are of seed {seed}, the counts below of all seeds {seeds}.
- **GDSF** is what the server does: it lets go what is cheapest to compute again, for its bytes and uses. Equal ranks go by id.
- **GDSF spaced** is proposed and not in the server: uses shortly after each other count as one, no more than four count, and of
  equal objects the longest unused goes (`src/memgang/eviction/spaced.py`). Its figures were chosen on {chosen}.
  Held out: {held}.
"""


def page() -> str:
    """The verdict, and the tables it is made from."""
    found = json.loads(RESULT.read_text("utf-8"))
    seeds = len(next(iter(found["margins"]["zipf"]["lirs-multi1"].values()))["GDSF"])
    out = [NOTE, INTRO.format(seed=found["seed"], seeds=f"1 to {seeds}", chosen=" and ".join(found["chosen on"]),
                              held=", ".join(found["held out"])),
           "## What came of it\n", *(outcome(policy, told) for policy, told in found["verdict"].items()), "",
           "With costs drawn, both often answer fewer requests than LRU, and are meant to: they keep what is dear. Those hit rates "
           "are in the result file.\n",
           "## Cost saved, of what an unlimited memory saves\n",
           *table(found, {"log": "", "lognormal": ", lognormal", "zipf": ", Zipf"}, "cost saved of possible"),
           "## Hit rate\n", *table(found, {"log": "", "given": ""}, "hit rate"),
           "## Byte hit rate of the log\n", "Of the traces it is the hit rate.\n", *table(found, {"log": ""}, "byte hit rate"),
           "## Hits more than LRU, at closer budgets\n", "All keys cost the same.\n", *closely(found)]
    return "\n".join(out)


def outcome(policy: str, told: dict[str, Any]) -> str:
    """What is promised of eviction by cost, and how far this form keeps it."""
    least, median, most = (f"{100 * margin:.1f}" for margin in told["saves more by"])
    nothing = "; ".join(at.partition(":")[0] for at in told["saves the same"])
    same = f" (nothing saves anything at {nothing})" if nothing else ""
    less = [f"{at} by {', '.join(f'{-points:.1f}' for points in by)}" for at, by in told["saves less with a seed"].items()]
    below = [f"{at} ({more:,})" for at, more in told["fewer hits than LRU"].items()]
    return (
        f"- **{policy}, cost.** At {told['compared in cost']} budgets of the tables it saves {least} to {most} points more than the best "
        f"policy that knows no costs, {median} in the middle, and at {len(told['saves less']) or 'none'} less{same}. Of "
        f"{told['all seeds']} budgets over all seeds it saves less at {sum(map(len, told['saves less with a seed'].values())) or 'none'}"
        f"{': ' + '; '.join(less) + ' points' if less else ''}.\n"
        f"- **{policy}, hits.** Where all keys cost the same, it has fewer hits than LRU at {len(below) or 'none'} of "
        f"{told['compared in hits']} budgets{': ' + ', '.join(below) if below else ''}.")


def table(found: dict[str, Any], kinds: dict[str, str], figure: str) -> Iterator[str]:
    """One figure of every policy, the best of each row in bold."""
    policies = found["policies"]
    yield f"| history | budget | {' | '.join(policies)} |\n|---|--:|{'--:|' * len(policies)}"
    for kind, suffix in kinds.items():
        for name, history in found[kind].items():
            for share, row in history["budgets"].items():
                best = max(row[policy][figure] for policy in policies)
                cells = (f"**{row[p][figure]:.2%}**" if row[p][figure] == best > 0 else f"{row[p][figure]:.2%}" for p in policies)
                yield f"| {name}{suffix} | {share} | {' | '.join(cells)} |"
    yield ""


def closely(found: dict[str, Any]) -> Iterator[str]:
    """How many hits our two forms have more than LRU."""
    traces = found["hits more than LRU"]
    shares = list(next(iter(traces.values()))["GDSF"])
    yield f"| trace | requests | policy | {' | '.join(shares)} |\n|---|--:|---|{'--:|' * len(shares)}"
    for name, by_policy in traces.items():
        for policy, by in by_policy.items():
            yield f"| {name} | {found['given'][name]['requests']:,} | {policy} | {' | '.join(f'{more:+,}' for more in by.values())} |"
