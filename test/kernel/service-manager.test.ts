// What the manager of a service receives on its socket.

import { join } from 'node:path';
import t from 'tap';
import { bind, close, recvNow, socket } from '../../kernel/ffi.ts';
import { tellServiceManager } from '../../kernel/service-manager.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;

t.test('a datagram, to a path and to an abstract name', async (t) => {
  const path = join(temporaryDirectory(t), 'notify');
  const abstract = `flannel-${crypto.randomUUID()}`;
  for (const [name, address] of [
    [path, `${path}\0`],
    [`@${abstract}`, `\0${abstract}`],
  ] as const) {
    const manager = socket(AF_UNIX, SOCK_DGRAM, 0);
    try {
      bind(manager, Buffer.concat([Buffer.of(AF_UNIX, 0), Buffer.from(address)]));
      tellServiceManager(name, 'READY=1');
      const into = Buffer.alloc(100);
      t.equal(into.toString('utf8', 0, recvNow(manager, into)), 'READY=1', name);
      t.equal(recvNow(manager, into), undefined, 'once');
    } finally {
      close(manager);
    }
  }
});

t.test('nobody there, or no name', async (t) => {
  t.throws(() => tellServiceManager(join(temporaryDirectory(t), 'none'), 'READY=1'), {
    code: 'kernel',
    errno: 'ENOENT',
  });
  for (const name of ['', 'notify', '@', '/', `/${'x'.repeat(107)}`, 'vsock:2:1234']) {
    t.throws(() => tellServiceManager(name, 'READY=1'), { code: 'io', subject: name }, name);
  }
});
