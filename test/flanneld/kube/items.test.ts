// A list comes out of the cutter as JSON.parse has it, wherever the answer is cut on its way.

import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { itemCutter } from '../../../flanneld/kube/items.ts';

/** The items and all else, from an answer that came in pieces of these sizes, over and over. */
function cut(text: string, sizes: readonly number[]): { items: unknown[]; rest: unknown } {
  const bytes = Buffer.from(text);
  const cutter = itemCutter(1 << 20);
  const items: unknown[] = [];
  for (let [at, turn] = [0, 0]; at < bytes.length; turn++) {
    const end = at + (sizes[turn % sizes.length] as number);
    items.push(...cutter.push(bytes.subarray(at, end)).map((item) => JSON.parse(item)));
    at = end;
  }
  return { items, rest: JSON.parse(cutter.rest()) };
}

const item = fc.dictionary(fc.string(), fc.jsonValue());
const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 });

t.test('whatever the items, the order of keys and the pieces', async () => {
  const list = fc.record({ items: fc.array(item), before: fc.dictionary(fc.string(), item), after: fc.jsonValue() });
  fc.assert(
    fc.property(list, sizes, fc.boolean(), ({ items, before, after }, pieces, pretty) => {
      const answer = { metadata: { items: [before], ...before }, before: [after], items, after, 'items"': [1] };
      const found = cut(JSON.stringify(answer, undefined, pretty ? 1 : undefined), pieces);
      const given = JSON.parse(JSON.stringify(answer));
      deepStrictEqual(found, { items: given.items, rest: { ...given, items: [] } });
    }),
    { numRuns: 200 },
  );
});

t.test('no items, null in their place, none of Kubernetes', async (t) => {
  for (const [text, rest] of [
    ['{"metadata":{"resourceVersion":"1"}}', { metadata: { resourceVersion: '1' } }],
    ['{"items":null,"metadata":{}}', { items: null, metadata: {} }],
    ['{"x":{"items":[{}]},"y":["items",[{}]]}', { x: { items: [{}] }, y: ['items', [{}]] }],
    ['[{"items":[{}]}]', [{ items: [{}] }]],
  ] as const) {
    t.strictSame(cut(text, [3]), { items: [], rest });
  }
  t.throws(() => cut('{"items":[{}', [2]), SyntaxError);
});

t.test('an item that never ends', async (t) => {
  const cutter = itemCutter(1000);
  cutter.push(Buffer.from('{"items":[{"a":"'));
  t.throws(() => {
    for (let turn = 0; turn < 20; turn++) cutter.push(Buffer.alloc(100, 'x'));
  }, RangeError);
});
