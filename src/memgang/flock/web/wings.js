// The shape of a bird, as a path: a body with two wings that beat, or from afar a chevron of four points.

// Adds a bird to the path under way in `pen`. `wing`: span, sweep, tail, body in parts of `size`.
export function birdPath(pen, bird, size, wing, still) {
  const cos = Math.cos(bird.heading), sin = Math.sin(bird.heading), x0 = bird.x, y0 = bird.y;
  const flap = still ? 0.86 : 0.72 + 0.28 * Math.sin(bird.beat);
  const bank = still ? 0 : Math.max(-0.22, Math.min(0.22, bird.turn * 0.06)); // leans into its turn
  const [span, sweep, tail, body] = wing;
  const X = (along, across) => x0 + along * cos - across * sin, Y = (along, across) => y0 + along * sin + across * cos;
  const move = (a, c) => pen.moveTo(X(a, c), Y(a, c)), line = (a, c) => pen.lineTo(X(a, c), Y(a, c));
  const curve = (a, c, b, d) => pen.quadraticCurveTo(X(a, c), Y(a, c), X(b, d), Y(b, d));
  if (size < 7) {
    const wide = span * size * 0.62 * flap;
    move(size, 0);
    line(-size * 0.85, wide);
    line(-size * 0.3, 0);
    line(-size * 0.85, -wide);
    return; // a fill closes it
  }
  const left = span * size * flap * (1 + bank), right = span * size * flap * (1 - bank), b = body * size, back = -sweep * size * (1.25 - flap * 0.35);
  move(size, 0);
  curve(size * 0.62, b * 1.3, size * 0.34, b * 1.15);
  curve(size * 0.38, left * 0.62, back, left);
  curve(size * 0.02, left * 0.5, -size * 0.28, b);
  line(-size * 1.2, tail * size * 0.62);
  line(-size * 0.82, 0);
  line(-size * 1.2, -tail * size * 0.62);
  line(-size * 0.28, -b);
  curve(size * 0.02, -right * 0.5, back, -right);
  curve(size * 0.38, -right * 0.62, size * 0.34, -b * 1.15);
  curve(size * 0.62, -b * 1.3, size, 0);
  pen.closePath();
}

// How large birds are drawn, by how many there are, px.
export function birdSize(count, radius) {
  const size = count > 120 ? 5.6 : count > 24 ? 9 : count > 12 ? 14 : 17;
  return count > 120 ? size : size * Math.max(0.66, Math.min(1, radius / 360));
}
