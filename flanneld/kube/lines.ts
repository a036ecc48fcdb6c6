// A stream of bytes cut into lines: what a watch answers is one JSON object on each. Pure.

/**
 * A function that takes the next bytes and gives the lines that they complete. A line longer than `most` bytes is an
 * error of the other side.
 * @throws RangeError
 */
export function lineCutter(most: number): (chunk: Buffer) => string[] {
  let parts: Buffer[] = [];
  let held = 0;
  return (chunk) => {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = Buffer.concat([...parts, chunk.subarray(start, end)]).toString();
      if (line !== '') lines.push(line);
      [parts, held, start] = [[], 0, end + 1];
    }
    const rest = chunk.subarray(start);
    held += rest.length;
    if (held > most) throw new RangeError(`a line of more than ${most} bytes`);
    if (rest.length > 0) parts.push(Buffer.from(rest));
    return lines;
  };
}
