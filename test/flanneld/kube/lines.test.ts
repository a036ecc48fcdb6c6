// Bytes cut into lines, wherever they are torn.

import fc from 'fast-check';
import t from 'tap';
import { lineCutter } from '../../../flanneld/kube/lines.ts';

t.test('however a text is torn, its lines are the same', async () => {
  const line = fc.string({ unit: 'binary', maxLength: 20 }).map((text) => text.replaceAll('\n', ''));
  const texts = fc.array(line, { maxLength: 10 });
  fc.assert(
    fc.property(texts, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (lines, sizes) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      const cut = lineCutter(1 << 20);
      const found: string[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = sizes[turn % sizes.length] as number;
        found.push(...cut(bytes.subarray(at, at + size)));
        at += size;
      }
      const expected = lines.map((line) => Buffer.from(line).toString()).filter((line) => line !== '');
      return JSON.stringify(found) === JSON.stringify(expected);
    }),
  );
});

t.test('a line without end', async (t) => {
  const cut = lineCutter(10);
  t.strictSame(cut(Buffer.from('12345')), []);
  t.throws(() => cut(Buffer.from('678901')), RangeError);
});
