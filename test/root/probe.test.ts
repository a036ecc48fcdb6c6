// Echoes of the real kernel, in a network namespace of its own: sizes, answers, what is not an answer, descriptors.

import { execFileSync, spawnSync } from 'node:child_process';
import t from 'tap';
import { LEAST_ECHO, openEchoes } from '../../kernel/probe.ts';
import { type Family, ip } from '../../model/ip.ts';
import { inside, runInside } from '../support/inside.ts';

const OURS = { 4: ip('192.0.2.1'), 6: ip('2001:db8::1') };
const PATIENCE_MS = 10_000;

/** The sequence numbers that were answered, and a wait for the next. */
function opened(family: Family) {
  const answered: number[] = [];
  let wake = () => {};
  const socket = openEchoes(family, {
    onReply(sequence) {
      answered.push(sequence);
      wake();
    },
    onFailure: (error) => t.fail(error.message),
  });
  const until = async (sequence: number) => {
    const end = Date.now() + PATIENCE_MS;
    while (!answered.includes(sequence) && Date.now() < end) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  return { socket, answered, until };
}

function suite(): void {
  const run = (command: string, ...args: readonly string[]) => execFileSync(command, args, { encoding: 'utf8' });
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'link', 'set', 'lo', 'mtu', '1500');
  for (const family of [4, 6] as const) run('ip', 'address', 'add', OURS[family], 'dev', 'lo');

  for (const family of [4, 6] as const) {
    t.test(`IPv${family}`, async (t) => {
      const { socket, answered, until } = opened(family);
      const other = opened(family);
      t.teardown(() => {
        socket.close();
        other.socket.close();
      });
      run(
        'nft',
        `table inet sizes { counter exact { }
        chain in { type filter hook input priority 0; meta length 1400 meta l4proto { icmp, icmpv6 } counter name exact; }; }`,
      );
      t.teardown(() => run('nft', 'delete table inet sizes'));
      socket.send(OURS[family], 1, LEAST_ECHO[family]);
      socket.send(OURS[family], 2, 1400);
      socket.send(OURS[family], 3, 1501);
      socket.send(OURS[family], 65_535, 1500);
      await until(65_535);
      await until(2);
      t.same(answered.toSorted(), [1, 2, 65_535], 'what the device takes, and nothing is fragmented');
      t.match(run('nft', 'list counter inet sizes exact'), /packets 2 /, 'of exactly that size, and so the answer');
      t.same(other.answered, [], 'the answers to another');
    });
  }

  t.test('no child has the sockets', async (t) => {
    const { socket } = opened(4);
    t.teardown(() => socket.close());
    const { stdout } = spawnSync('sh', ['-c', 'ls -l /proc/self/fd'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
    });
    const raw = run('sh', '-c', 'cat /proc/net/raw')
      .split('\n')
      .slice(1)
      .flatMap((line) => line.trim().split(/\s+/)[9] ?? []);
    t.ok(raw.length > 0);
    for (const inode of raw) t.notMatch(stdout, `socket:[${inode}]`);
  });

  t.test('without the right to', async (t) => {
    process.seteuid?.(65_534);
    try {
      t.throws(() => openEchoes(4, { onReply: () => undefined, onFailure: () => undefined }), {
        code: 'kernel',
      });
    } finally {
      process.seteuid?.(0);
    }
  });
}

if (inside === undefined) {
  await runInside(t, import.meta.filename, 'probe');
} else {
  suite();
}
