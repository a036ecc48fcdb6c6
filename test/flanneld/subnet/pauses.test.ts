// Pauses between tries, and troubles told once.

import t from 'tap';
import { pauses, whenNew } from '../../../flanneld/subnet/pauses.ts';

t.test('pauses grow up to two seconds, and start anew after a good time', async (t) => {
  const pause = pauses(() => 0.5);
  t.strictSame([0, 0, 0, 0, 0, 0, 0].map(pause), [100, 200, 400, 800, 1600, 2000, 2000]);
  t.equal(pause(9999), 2000);
  t.equal(pause(10_000), 100);
  t.strictSame([pauses(() => 0)(0), pauses(() => 1)(0)], [75, 125], 'somewhat random');
});

t.test('a trouble is told when it is new', async (t) => {
  const told: unknown[] = [];
  const trouble = whenNew((error) => told.push(error));
  const [a, again, b] = [new Error('a'), new Error('a'), new Error('b')];
  for (const error of [undefined, a, again, b, undefined, undefined, again]) trouble(error);
  t.strictSame(told, [a, b, again]);
});
