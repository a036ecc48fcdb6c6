// The answer to a list, cut into its items as it comes in: a page of Nodes or Pods is megabytes, and as one value it would
// live long enough to be expensive garbage. Pure.

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

export interface ItemCutter {
  /** The items, as JSON, that the next bytes complete. @throws RangeError for one of more bytes than allowed */
  push(chunk: Buffer): string[];
  /** All else of the answer, as JSON, with an empty list in place of the items. */
  rest(): string;
}

/**
 * Cuts what stands in `items` of the outermost object. What is no JSON comes out as pieces that are none. `most`: bytes
 * of an item, and of all else.
 */
export function itemCutter(most: number): ItemCutter {
  const rest: Buffer[] = [];
  let item: Buffer[] = [];
  let held = 0;
  let depth = 0;
  let inString = false;
  let escaped = false;
  let inItems = false;
  /** Of the outermost object: whether a key is being read, and the last one's bytes. */
  let inKey = false;
  let expectsKey = true;
  let key: number[] = [];

  const isItems = (): boolean => String.fromCharCode(...key) === 'items';

  function keep(parts: Buffer[], piece: Buffer): void {
    held += piece.length;
    if (held > most) throw new RangeError(`a part of a list of more than ${most} bytes`);
    if (piece.length > 0) parts.push(Buffer.from(piece));
  }

  function string(byte: number): void {
    const ends = byte === QUOTE && !escaped;
    escaped = byte === BACKSLASH && !escaped;
    if (inKey && !ends && key.length < 8) key.push(byte);
    if (ends) [inString, inKey] = [false, false];
  }

  /** Outside of strings and items. */
  function outer(byte: number): void {
    if (byte === QUOTE) {
      inString = true;
      inKey = depth === 1 && expectsKey;
      if (inKey) key = [];
    } else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) depth--;
    else if (depth === 1 && byte === COLON) expectsKey = false;
    else if (depth === 1 && byte === COMMA) expectsKey = true;
  }

  return {
    push(chunk) {
      const items: string[] = [];
      let start = 0;
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at] as number;
        if (inString) {
          string(byte);
          continue;
        }
        if (!inItems) {
          const begins = byte === OPEN_LIST && depth === 1 && !expectsKey && isItems();
          outer(byte);
          if (!begins) continue;
          inItems = true;
          keep(rest, chunk.subarray(start, at + 1));
          [start, held] = [at + 1, 0];
        } else if (byte === QUOTE) inString = true;
        else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++;
        else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) {
          depth--;
          if (depth === 2) {
            const last = chunk.subarray(start, at + 1);
            items.push((item.length === 0 ? last : Buffer.concat([...item, last])).toString());
            [item, held, start] = [[], 0, at + 1];
          } else if (depth === 1) {
            [inItems, start, item] = [false, at, []];
          }
        } else if (byte === COMMA && depth === 2) start = at + 1;
      }
      keep(inItems ? item : rest, chunk.subarray(start));
      return items;
    },
    rest: () => Buffer.concat(rest).toString(),
  };
}
