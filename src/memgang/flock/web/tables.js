// The same state as tables, for those who do not see the picture, or want to read it.

import { make, say } from "./dom.js";
import { counted, lasted, sized } from "./naming.js";
import { doing } from "./words.js";
import { RING_NAMES } from "./layout.js";

const SHOWN = 200;
const AGENT_COLUMNS = ["Agent", "Role", "Does", "Read", "Wrote", "Reused", "Asked", "Waited", "Tokens saved", "Errors"];
const OBJECT_COLUMNS = ["Memory", "Ring", "By", "Tokens", "Size", "Read", "Reused", "Made from"];

export class Tables {
  constructor(hud, box) {
    Object.assign(this, { hud, box });
    this.agents = this.table("Agents", AGENT_COLUMNS);
    this.objects = this.table("Memory", OBJECT_COLUMNS);
  }

  table(title, columns) {
    const body = make("tbody"), caption = make("caption", {}, title);
    this.box.append(make("table", {}, caption, make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))), body));
    return { body, caption, title, columns: columns.length };
  }

  // `keep(kind, id)`: what a search leaves.
  update(fold, birds, dial, aliases, t, keep) {
    const agents = birds.list.filter((bird) => keep("agent", bird.name)), shown = agents.slice(0, SHOWN);
    this.held = this.box.contains(this.box.getRootNode().activeElement); // what has the focus does not become something else
    this.fill(this.agents, "agent", shown, agents.length, (bird) => [bird.name, [
      bird.alias, bird.agent.role || "\u2013", bird.state === "idle" ? "rests" : bird.state === "gone" ? "left" : doing(bird, dial), bird.agent.reads, bird.agent.writes,
      bird.agent.reuses, bird.agent.asked, bird.agent.wait_ms ? lasted(bird.agent.wait_ms) : "", counted(bird.agent.saved[2] + bird.agent.saved[3]).replace(/^0$/, ""), bird.agent.errors]]);
    const lights = [...fold.lights.values()].filter((light) => keep("object", light.id))
      .sort((one, other) => other.reuses - one.reuses || other.reads - one.reads);
    this.fill(this.objects, "object", lights.slice(0, SHOWN), lights.length, (light) => [light.id, [
      this.hud.nameOf(light.id), Object.hasOwn(RING_NAMES, light.ring) ? RING_NAMES[light.ring] : "", light.by ? aliases.of(light.by) : "\u2013", light.tok ? counted(light.tok) : "",
      light.bytes ? sized(light.bytes) : "", light.reads, light.reuses, light.src.length || ""]]);
  }

  // In the order of before while somebody is in it, what is new behind.
  kept(table, list, tell) {
    if (this.held && table.order) {
      const places = new Map(table.order.map((id, place) => [id, place]));
      list = list.map((item, i) => [places.get(tell(item)[0]) ?? places.size + i, item]).sort((one, other) => one[0] - other[0]).map(([, item]) => item);
    }
    table.order = list.map((item) => tell(item)[0]);
    return list;
  }

  fill(table, kind, list, all, tell) {
    say(table.caption, all > list.length ? `${table.title}: ${list.length} of ${all}, the most used first; search for others` : `${table.title}: ${all}`);
    const { body } = table;
    list = this.kept(table, list, tell);
    while (body.children.length > list.length) body.lastElementChild.remove();
    while (body.children.length < list.length) {
      const row = make("tr", {}, make("th", { scope: "row" }, this.hud.name(kind)));
      for (let i = 1; i < table.columns; i++) row.append(make("td"));
      body.append(row);
    }
    list.forEach((item, i) => {
      const [id, values] = tell(item), cells = body.children[i].children;
      this.hud.setName(cells[0].firstElementChild, kind, id, String(values[0]));
      for (let j = 1; j < values.length; j++) say(cells[j], values[j] === 0 ? "" : String(values[j]));
    });
  }
}
