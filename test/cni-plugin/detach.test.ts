// Which attachments a late deletion may take away.

import t from 'tap';
import type { Attachment } from '../../cni-plugin/attachments.ts';
import { isYounger } from '../../cni-plugin/detach.ts';
import { orUndo } from '../../cni-plugin/undo.ts';
import type { Dependencies } from '../../cni-plugin/verbs.ts';

t.test('an attachment that was made after a deletion was asked for is no business of it', async (t) => {
  const cases: [string, string, number, Dependencies['asked'], boolean][] = [
    ['asked now', 'boot2', 500, undefined, false],
    ['made before', 'boot2', 500, { bootId: 'boot2', at: 501 }, false],
    ['made after', 'boot2', 500, { bootId: 'boot2', at: 499 }, true],
    ['made since a reboot, whatever the clocks say', 'boot2', 500, { bootId: 'boot1', at: 900 }, true],
    ['both before a reboot', 'boot1', 500, { bootId: 'boot1', at: 400 }, false],
    ['made before a reboot', 'boot1', 500, { bootId: 'boot2', at: 400 }, false],
  ];
  for (const [name, bootId, created, asked, expected] of cases) {
    const dependencies = { bootId: 'boot2', asked } as Dependencies;
    t.equal(isYounger({ bootId, created } as Attachment, dependencies), expected, name);
  }
});

t.test('what was done is taken back, the last first, up to what can’t be', async (t) => {
  const done: string[] = [];
  const failing = orUndo(async (undo) => {
    undo(() => done.push('record'));
    undo(async () => done.push('address'));
    undo(() => done.push('device'));
    throw new Error('first');
  });
  await t.rejects(failing, { message: 'first' });
  t.strictSame(done, ['device', 'address', 'record']);

  done.length = 0;
  const stuck = orUndo(async (undo) => {
    undo(() => done.push('record'));
    undo(() => done.push('address'));
    undo(async () => {
      throw new Error('second');
    });
    throw new Error('first');
  });
  await t.rejects(stuck, { message: 'first' });
  t.strictSame(done, [], 'the record stays, and says what is left');

  const succeeding = orUndo(async (undo) => {
    undo(() => done.push('never'));
    return 'result';
  });
  t.equal(await succeeding, 'result');
  t.strictSame(done, []);
});
