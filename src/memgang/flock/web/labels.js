// Names on the picture. Each looks for a free one of eight places round what it names; where none is free it says less, or nothing.
// No two overlap: `boxes` are all that were drawn, and a test compares them.

const FONT = "Inter,system-ui,-apple-system,'Segoe UI',sans-serif";
export const TYPE = {
  name: `650 11.5px ${FONT}`, text: `500 11px ${FONT}`, ring: `600 11px ${FONT}`, ringOn: `700 11px ${FONT}`, axis: `500 10px ${FONT}`,
  big: `700 15px ${FONT}`, small: `600 10px ${FONT}`, float: `650 11px ${FONT}`,
};
const HIGH = 18;

export class Labels {
  constructor(pen) {
    this.pen = pen;
    this.widths = new Map();
    this.begin(0, 0);
  }

  begin(width, height) {
    this.width = width;
    this.height = height;
    this.boxes = []; // [x, y, w, h] of words
    this.taken = []; // and of what words must not cover
  }

  avoid(x, y, w, h) {
    this.taken.push([x, y, w, h]);
  }

  measure(font, text) {
    const key = font + text;
    let width = this.widths.get(key);
    if (width === undefined) {
      this.pen.font = font;
      width = this.pen.measureText(text).width;
      if (this.widths.size > 3000) this.widths.clear();
      this.widths.set(key, width);
    }
    return width;
  }

  free(x, y, w, h) {
    if (x < 3 || y < 3 || x + w > this.width - 3 || y + h > this.height - 3) return false;
    for (const list of [this.boxes, this.taken]) {
      for (const box of list) if (x < box[0] + box[2] && x + w > box[0] && y < box[1] + box[3] && y + h > box[1]) return false;
    }
    return true;
  }

  // Words without a frame, if there is room: the place is their middle.
  words(x, y, text, font, colour, halo, pad = 3) {
    const w = this.measure(font, text) + pad * 2, h = 15;
    if (!this.free(x - w / 2, y - h / 2, w, h)) return false;
    this.boxes.push([x - w / 2, y - h / 2, w, h]);
    const { pen } = this;
    pen.font = font;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    if (halo) {
      pen.lineJoin = "round";
      pen.lineWidth = 4;
      pen.strokeStyle = halo;
      pen.strokeText(text, x, y);
    }
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
    return true;
  }

  // A framed name beside (x, y), `away` px from it. `holder.slot` keeps its place from frame to frame.
  tag(x, y, away, name, text, colours, holder) {
    const first = this.measure(TYPE.name, name), second = text ? this.measure(TYPE.text, text) + 5 : 0, w = first + second + 13;
    const places = [
      [away, -HIGH / 2], [-away - w, -HIGH / 2], [-w / 2, -away - HIGH], [-w / 2, away],
      [away * 0.7, -away - HIGH * 0.6], [-away * 0.7 - w, -away - HIGH * 0.6], [away * 0.7, away * 0.6], [-away * 0.7 - w, away * 0.6],
    ];
    for (let i = 0; i < places.length; i++) {
      const slot = (holder.slot + i) % places.length, left = x + places[slot][0], top = y + places[slot][1];
      if (!this.free(left, top, w, HIGH)) continue;
      holder.slot = slot;
      this.boxes.push([left, top, w, HIGH]);
      this.frame(left, top, w, name, text, first, colours);
      return true;
    }
    return false;
  }

  frame(left, top, w, name, text, first, colours) {
    const { pen } = this;
    pen.beginPath();
    pen.roundRect(left, top, w, HIGH, 9);
    pen.fillStyle = colours.ground;
    pen.fill();
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    pen.stroke();
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.font = TYPE.name;
    pen.fillStyle = colours.name;
    pen.fillText(name, left + 6.5, top + HIGH / 2 + 0.5);
    if (text) {
      pen.font = TYPE.text;
      pen.fillStyle = colours.text;
      pen.fillText(text, left + 6.5 + first + 5, top + HIGH / 2 + 0.5);
    }
  }
}
