// What the agent answers over HTTP and over its socket, and what `flanneld status` makes of it.

import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createTcpServer } from 'node:net';
import t, { type Test } from 'tap';
import { systemClock } from '../../flanneld/clock.ts';
import type { CniStatus } from '../../flanneld/cni/service.ts';
import { type HealthView, healthServer, serveHealth } from '../../flanneld/health.ts';
import { humanLine } from '../../flanneld/human-log.ts';
import type { AgentStatus } from '../../flanneld/agent-status.ts';
import { printStatus, statusReport } from '../../flanneld/status.ts';
import { answers, keepSocket, listenOnSocket, noAgent, statusSocketPath } from '../../flanneld/status-socket.ts';
import { ip, prefix } from '../../model/ip.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { testLog } from './fixtures/host.ts';

const STATUS: AgentStatus = {
  version: '0.1.0',
  pid: 4711,
  startedAt: '2026-01-01T00:00:00.000Z',
  ready: true,
  nodeId: '0a0a0a0a-0000-4000-8000-00000000000a',
  families: [
    {
      family: 4,
      network: prefix('10.244.0.0/16'),
      subnet: prefix('10.244.1.0/24'),
      publicIp: ip('192.168.50.1'),
      device: 'eth0',
      deviceMtu: 1500,
    },
  ],
  backend: 'vxlan',
  mtu: 1450,
  subnetFile: '/run/flannel/subnet.env',
  peers: [
    { key: '10.244.2.0-24', publicIp: [ip('192.168.50.2')], state: 'programmed' },
    {
      key: '10.244.30.0-24',
      publicIp: [ip('192.168.50.30')],
      state: 'refused',
      reason: 'publishes no usable VtepMAC for IPv4: null',
    },
  ],
  lastRun: { at: '2026-01-01T02:59:58.000Z', reasons: ['leases'], durationMs: 1.25, changes: 3, problems: [] },
  differences: [],
};
const NOW = Date.parse('2026-01-01T03:00:00.000Z');

const view = (status: AgentStatus = STATUS): HealthView => ({
  unreadiness: () => status.reason,
  remarks: () => status.notes ?? [],
  examine: async () => undefined,
  status: () => status,
});

async function listening(t: Test, path: string, status: AgentStatus): Promise<void> {
  const server = healthServer(view(status));
  await listenOnSocket(server, path);
  t.teardown(() => server.close());
}

t.test('report 26: in words', async (t) => {
  t.equal(
    printStatus(STATUS, NOW),
    `flanneld 0.1.0, process 4711, running for 3 h: ready
IPv4: subnet 10.244.1.0/24 of 10.244.0.0/16, by 192.168.50.1 on eth0 (MTU 1500)
backend vxlan, MTU of pods 1450, node 0a0a0a0a-0000-4000-8000-00000000000a
peers: 2 (1 programmed, 1 refused)
  10.244.2.0-24   192.168.50.2  programmed
  10.244.30.0-24  192.168.50.30  refused: publishes no usable VtepMAC for IPv4: null
last compared 2 s ago (leases): 3 changes, 1.3 ms
differences: none
`,
  );
  const waiting: AgentStatus = {
    ...STATUS,
    ready: false,
    reason: 'waiting for the network configuration: x',
    trouble: 'x',
    families: [],
    backend: undefined,
    peers: [],
    lastRun: undefined,
  };
  t.equal(
    printStatus(waiting, NOW),
    `flanneld 0.1.0, process 4711, running for 3 h: NOT READY
  waiting for the network configuration: x
peers: 0
differences: none
`,
  );
  const differing = {
    ...STATUS,
    graceUntil: '2026-01-01T03:00:30.000Z',
    differences: Array.from({ length: 22 }, (_, n) => `ip route replace ${n}`),
  };
  t.match(
    printStatus(differing, NOW),
    /nothing is removed until.*differences: 22\n {2}ip route replace 0\n.*replace 19\n {2}\.\.\. and 2 more\n$/s,
  );
});

t.test('requests of CNI clients in words', async (t) => {
  const counts = (succeeded: number, failed: number, undone = 0) => ({ succeeded, failed, undone });
  const cni: CniStatus = {
    socket: '/run/flannel/cni.sock',
    requests: { ADD: counts(12, 3, 1), refused: counts(0, 15), DEL: counts(5, 0) },
    running: 1,
    waiting: 0,
    reclaimed: 0,
    lastReclaimed: [],
    problems: [],
    spool: { done: 0, waiting: 0, aside: 0 },
  };
  t.match(
    printStatus({ ...STATUS, cni }, NOW),
    /^CNI clients: served on \/run\/flannel\/cni\.sock\n {2}ADD 12 \(3 failed\) \(1 undone\), DEL 5, 15 invalid, 1 running, 0 waiting$/m,
  );
});

t.test('an agent that this user may not ask is not one that is away', async (t) => {
  t.match(noAgent('/run/x.sock', Object.assign(new Error('connect'), { code: 'EACCES' })), {
    code: 'not-permitted',
    message: 'ask the agent on /run/x.sock: EACCES',
  });
  t.match(noAgent('/run/x.sock', new Error('no answer in time')), {
    code: 'no-agent',
    message: 'no agent answers on /run/x.sock: no answer in time',
  });
});

t.test('probes, commands and notes in words', async (t) => {
  const probe = { address: ip('10.244.2.0'), fits: true, rounds: 10 } as const;
  const status: AgentStatus = {
    ...STATUS,
    notes: ['restart needed: Backend.VNI (1 to 7)'],
    extension: { added: 3, running: 1, failing: [{ key: 'x', reason: 'y' }] },
    peers: [
      {
        key: '10.244.2.0-24',
        publicIp: [ip('192.168.50.2')],
        state: 'programmed',
        probes: [
          { ...probe, family: 4, state: 'reachable', rttMs: 0.44, loss: 0.1 },
          { ...probe, family: 6, state: 'unreachable', rttMs: undefined, loss: 1 },
        ],
      },
    ],
  };
  const text = printStatus(status, NOW);
  t.match(text, /: ready\n {2}restart needed: Backend\.VNI \(1 to 7\)\nIPv4/);
  t.match(
    text,
    /^ {2}10\.244\.2\.0-24 {2}192\.168\.50\.2 {2}programmed; IPv4 reachable, 0\.4 ms, 10 % of 10 lost; IPv6 unreachable, 100 % of 10 lost$/m,
  );
  t.match(text, /^commands: 3 peers added, 1 running, 1 failing$/m);
});

t.test('exit codes', async (t) => {
  const report = async (status: AgentStatus | undefined, json = false) => {
    const file = `${temporaryDirectory(t)}/${Math.random()}.env`;
    if (status !== undefined) await listening(t, statusSocketPath(file), status);
    return statusReport(file, json, NOW);
  };
  t.match(await report(STATUS), { exitCode: 0, text: printStatus(STATUS, NOW) });
  t.equal((await report({ ...STATUS, ready: false, reason: 'x' })).exitCode, 1);
  t.equal((await report({ ...STATUS, differences: ['ip link add'] })).exitCode, 1);
  t.match(await report(undefined), {
    exitCode: 2,
    text: /^no agent answers on .*\.sock: ENOENT \(start the agent; [^)]*\)\n$/,
  });
  t.same(JSON.parse((await report(STATUS, true)).text), JSON.parse(JSON.stringify(STATUS)));
  t.match(JSON.parse((await report(undefined, true)).text), { ready: false, reason: /no agent answers/ });
});

t.test('over HTTP', async (t) => {
  let reason: string | undefined = 'waiting';
  let asked = 0;
  const server = await serveHealth(
    { unreadiness: () => reason, remarks: () => ['a note'], examine: async () => void asked++, status: () => STATUS },
    { address: ip('127.0.0.1'), port: 0 },
  );
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return [response.status, await response.text()];
  };
  t.same(await get('/healthz'), [200, 'flanneld is running\n']);
  t.same(await get('/readyz'), [503, 'waiting\n']);
  t.same(await get('/readyz', 'HEAD'), [503, '']);
  reason = undefined;
  t.same(await get('/readyz?verbose'), [200, 'ready\na note\n']);
  t.equal(asked, 0, 'what asks for no difference has none read');
  t.same(JSON.parse(String((await get('/status'))[1])), JSON.parse(JSON.stringify(STATUS)));
  t.equal(asked, 1);
  t.equal((await get('/nope'))[0], 404);
  t.equal((await get('/healthz', 'POST'))[0], 405);
  await t.rejects(serveHealth(view(), { address: ip('127.0.0.1'), port }), {
    code: 'invalid-flag',
    message: new RegExp(`--healthz-port=${port}: EADDRINUSE`),
  });
});

t.test('a socket whose path is longer than the kernel takes', async (t) => {
  const dir = temporaryDirectory(t);
  const path = statusSocketPath(`${dir}/${'x'.repeat(107 - dir.length)}.env`);
  await t.rejects(listenOnSocket(healthServer(view()), path), {
    code: 'io',
    errno: 'ENAMETOOLONG',
    message: /at most 107 bytes/,
  });
});

t.test('the socket', async (t) => {
  const dir = temporaryDirectory(t);
  const path = statusSocketPath(`${dir}/subnet.env`);
  t.equal(path, `${dir}/subnet.sock`);
  t.equal(statusSocketPath('/run/x/other'), '/run/x/other.sock');
  const first = healthServer(view());
  await listenOnSocket(first, path);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await t.rejects(listenOnSocket(healthServer(view()), path), { code: 'busy', message: /another flanneld answers/ });
  first.close();
  t.notOk(existsSync(path), 'closing takes it away');
  t.notOk(await answers(path));

  const stale = createTcpServer();
  await new Promise<void>((resolve) => stale.listen(`${dir}/stale.sock`, resolve));
  const { renameSync } = await import('node:fs');
  renameSync(`${dir}/stale.sock`, path);
  stale.close();
  t.ok(existsSync(path), 'a socket that nobody answers on');
  const second = healthServer(view());
  await listenOnSocket(second, path);
  t.ok(await answers(path), 'is replaced');
  second.close();

  writeFileSync(path, '');
  await t.rejects(listenOnSocket(healthServer(view()), path), { code: 'foreign-object' });
  const open = `${dir}/open`;
  mkdirSync(open);
  chmodSync(open, 0o777);
  await t.rejects(listenOnSocket(healthServer(view()), `${open}/subnet.sock`), {
    code: 'io',
    message: /only its owner/,
  });
});

t.test('an agent that is being replaced', async (t) => {
  const path = `${temporaryDirectory(t)}/subnet.sock`;
  const [old, next] = [healthServer(view()), healthServer(view())];
  await listenOnSocket(old, path);
  const log = testLog();
  const controller = new AbortController();
  const kept = keepSocket(next, path, systemClock, log, controller.signal);
  setTimeout(() => old.close(), 200);
  await kept;
  t.ok(await answers(path));
  t.match(log.lines, [/another flanneld answers/]);
  next.close();
});

t.test('log lines for a terminal', async (t) => {
  const line = (facts: object) => humanLine(JSON.stringify({ level: 30, time: NOW, msg: 'ready', ...facts }));
  t.equal(line({}), '03:00:00.000 ready\n');
  t.equal(line({ level: 40, peers: 2 }), '03:00:00.000 warning ready  {"peers":2}\n');
});
