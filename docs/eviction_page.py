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
  from those of the answers in the log, lognormal (sigma 1.5) or Zipf. The tables are of seed {seed}, the counts below of all seeds {seeds}.
- **GDSF** is what the server does: GreedyDual-Size-Frequency with the seconds to compute again, in which uses count only when as
  much as the memory holds was evicted since the last, no more than four count, the worth (uses x seconds / bytes) is raised to
  3/2, and of equal objects the longest unused goes (`src/memgang/eviction/gdsf.py` says why). Tests compare the two to the last bit.
- **GDSF plain** is what the paper has. Equal ranks go by id.
- The exponent and the four were chosen on {chosen}, with lognormal and Zipf costs of seeds 6 to 12.
  Held out: {held}.
  How far apart uses must be was not chosen: with that, objects of one size and one cost go in the order of LRU, whatever is asked for.

## Limits

- The server counts every byte of a shard where the simulator counts what can be evicted: with much that is kept, uses must be further
  apart. It guards what was written in the last minute (`guard_ms`), which is not simulated. Each shard has a clock of its own.
- Reads are ranked when their batch is written (`flush_ms`), and what one batch holds of an object is one use.
- A rank is a double and the clock only grows, by about one typical worth in each turnover of the memory. After a million turnovers two
  worths are still told apart if they differ by a two-billionth of the typical one. What is worth less than that goes first, the
  longest unused of it foremost, for each use moves the clock by two units of the last place of its rank; that is too little to
  age anything, however much is read. Nothing is renormalised.
- Ranks and uses of objects from before version 0.2 hold until their next read or put; then their reads count as four uses at most.
- `agent_budget_bytes` evicts among the objects of one agent alone, in the same order; it is not simulated. The clock then follows the
  victim's rank by the share of the space that the agent has, so that an agent at its limit does not make old what others have.
"""

SAVED = "cost saved of possible"
COSTED = {"from the log": ", costs of the log", "lognormal": ", lognormal", "zipf": ", Zipf"}


def page() -> str:
    """The verdict, and the tables it is made from."""
    found = json.loads(RESULT.read_text("utf-8"))
    seeds = len(next(iter(found["margins"]["zipf"]["lirs-multi1"].values()))["GDSF"])
    out = [NOTE, INTRO.format(seed=found["seed"], seeds=f"1 to {seeds}", chosen=" and ".join(found["chosen on"]),
                              held=", ".join(found["held out"])),
           "## What came of it\n", *(outcome(policy, told) for policy, told in found["verdict"].items()),
           beside_plain(found), "",
           "With costs drawn, both often answer fewer requests than LRU, and are meant to: they keep what is dear. Those hit rates "
           "are in the result file.\n",
           "## Cost saved, of what an unlimited memory saves\n",
           *table(found, {"log": ""} | COSTED, SAVED),
           "## Hit rate\n", *table(found, {"log": "", "given": ""}, "hit rate"),
           "## Byte hit rate of the log\n", "Of the traces it is the hit rate.\n", *table(found, {"log": ""}, "byte hit rate"),
           "## Hits more than LRU, at closer budgets\n", "All keys cost the same.\n", *closely(found)]
    return "\n".join(out)


def beside_plain(found: dict[str, Any]) -> str:
    """How the form of the server compares with that of the paper, in cost."""
    more = sorted(row["GDSF"][SAVED] - row["GDSF plain"][SAVED]
                  for kind in ("log", *COSTED) for history in found[kind].values() for row in history["budgets"].values())
    return (f"- **GDSF beside GDSF plain, cost.** At those {len(more)} budgets it saves more at {sum(by > 0 for by in more)}, by "
            f"{100 * more[-1]:.1f} points at most, and less at {sum(by < 0 for by in more)}, by {-100 * more[0]:.1f} at most.")


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
