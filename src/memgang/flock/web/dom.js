// The few words with which pages are made. Text is always set as text: names in a log are nobody's markup.

const SVG = "http://www.w3.org/2000/svg";

// An element: `{class, title, aria-..., onclick}`, then children, which are nodes or text.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  dress(node, attributes);
  node.append(...children);
  return node;
}

export function makeSvg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  dress(node, attributes);
  node.append(...children);
  return node;
}

function dress(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
}

// Sets text only where it differs: layout is not asked again for what stands there already.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// Keeps `box` at `count` rows made by `maker`, and returns them.
export function rowsOf(box, count, maker) {
  while (box.children.length > count) box.lastElementChild.remove();
  while (box.children.length < count) box.append(maker());
  return box.children;
}

// An address that may stand in a link: of this site, or http(s). Whoever embeds the flock answers `href`, from names of a log.
export function safeAddress(address) {
  return typeof address === "string" && /^(https?:\/\/|[/?#]|\.{1,2}\/)/i.test(address) && !address.startsWith("//") ? address : null;
}
