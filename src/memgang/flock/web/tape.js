// A tape that lies in a page: compressed JSON lines as base64. The first line is the header, the others are records.

export async function unpackTape(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const lines = (await new Response(stream).text()).split("\n");
  const { header } = JSON.parse(lines[0]);
  // One parse of the whole is several times faster than one for each of 100,000 lines.
  return { header, records: JSON.parse(`[${lines.slice(1).filter(Boolean).join(",")}]`) };
}

// Says in place of the picture why there is none.
export function tellFailure(root, error) {
  const told = document.createElement("p");
  told.className = "page-failed";
  told.textContent = `This run cannot be played here: ${error.message}. Any browser of 2023 or later can.`;
  root.replaceChildren(told);
}
