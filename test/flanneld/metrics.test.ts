// /metrics: what it says, in a form that Prometheus takes.

import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { healthServer } from '../../flanneld/health.ts';
import { metricsReference, metricsText, type ProcessFacts } from '../../flanneld/metrics.ts';
import type { PeerStatus } from '../../flanneld/peer-status.ts';
import type { ProbeState } from '../../flanneld/probe/window.ts';
import { processFacts } from '../../flanneld/process-facts.ts';
import { ip } from '../../model/ip.ts';
import { rig } from './fixtures/agent.ts';
import { peerLease } from './fixtures/world.ts';

const FACTS: ProcessFacts = { residentBytes: 7, heapBytes: 5, cpuSeconds: 0.5, lag: { p50: 0, p99: 0.001, max: 0.25 } };

/** Values by name and labels. @throws Error for a line that the text format doesn't have */
function values(text: string): Map<string, number> {
  const found = new Map<string, number>();
  let current = '';
  for (const line of text.trimEnd().split('\n')) {
    const head = /^# (?:HELP (\w+) .+|TYPE (\w+) (?:gauge|counter))$/.exec(line);
    if (head !== null) {
      current = head[1] ?? head[2] ?? '';
      continue;
    }
    const sample = /^((\w+)(?:\{\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*\})?) (-?[\d.e+-]+)$/.exec(line);
    if (sample === null || sample[2] !== current) throw new Error(`not in the format: ${line}`);
    found.set(sample[1] as string, Number(sample[3]));
  }
  return found;
}

t.test('report 26: an agent at work', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2), { ...peerLease([4], 3), backendData: {} });
  const { agent } = node.start();
  const before = values(metricsText(agent.status(), FACTS));
  t.equal(before.get('flannel_ready'), 0);
  t.equal(before.get('flannel_leases'), 0);
  t.notOk(before.has('flannel_pod_mtu_bytes'), 'not known yet');
  await node.pass(0);
  const after = values(metricsText(agent.status(), FACTS));
  const expected = {
    flannel_ready: 1,
    flannel_leases: 3,
    'flannel_peers{state="programmed"}': 1,
    'flannel_peers{state="refused"}': 1,
    'flannel_peers{state="failed"}': 0,
    flannel_pod_mtu_bytes: 1450,
    flannel_differences: 0,
    flannel_reconcile_failed_runs_total: 0,
    'flannel_trouble{part="store"}': 0,
    'flannel_trouble{part="config"}': 0,
    'flannel_probed_peers{state="reachable"}': 0,
    'flannel_trouble{part="host"}': 0,
    nodejs_eventloop_lag_max_seconds: 0.25,
    process_resident_memory_bytes: 7,
    process_cpu_seconds_total: 0.5,
  };
  for (const [name, value] of Object.entries(expected)) t.equal(after.get(name), value, name);
  t.ok((after.get('flannel_reconcile_changes_total') as number) > 5);
  t.match([...after.keys()][0], /^flannel_info\{version="[\d.]+",backend="vxlan",node=".+"\}$/);

  for (let count = 0; count < 30; count++) node.kernel.failNext(/route replace 10\.244\.2\.0/, 'ENOMEM');
  node.kernel.failNext(/change table|add chain/, 'EBUSY');
  node.kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  await node.pass(30);
  const failed = values(metricsText(agent.status(), FACTS));
  t.ok((failed.get('flannel_reconcile_runs_total') as number) > (after.get('flannel_reconcile_runs_total') as number));
  t.equal(failed.get('flannel_trouble{part="host"}'), 1);
  t.ok((failed.get('flannel_reconcile_failed_runs_total') as number) >= 1);
});

t.test('what CNI clients asked for', async (t) => {
  const node = rig(t);
  const { agent } = node.start();
  const status = agent.status();
  const cni = {
    socket: '/run/flannel/cni.sock',
    requests: { ADD: { succeeded: 3, failed: 1, undone: 0 } },
    running: 2,
    waiting: 1,
  };
  const found = values(metricsText({ ...status, version: 'a"b\\c\nd', cni: cni as never }, FACTS));
  t.equal(found.get('flannel_cni_requests_total{verb="ADD",result="succeeded"}'), 3);
  t.equal(found.get('flannel_cni_requests_total{verb="ADD",result="failed"}'), 1);
  t.equal(found.get('flannel_cni_running'), 2);
  t.equal(found.get('flannel_info{version="a\\"b\\\\c\\nd",backend="",node=""}'), 1);
});

t.test('over HTTP, with what the process says of itself', async (t) => {
  const node = rig(t);
  const { agent } = node.start();
  const server = healthServer(agent).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const get = () =>
    new Promise<{ type: string | undefined; body: string }>((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      request({ port, path: '/metrics' }, (response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => resolve({ type: response.headers['content-type'], body }));
      })
        .on('error', reject)
        .end();
    });
  await get();
  await new Promise((resolve) => setTimeout(resolve, 250));
  const until = Date.now() + 300;
  while (Date.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 150));
  const { type, body } = await get();
  t.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
  const found = values(body);
  t.ok((found.get('process_resident_memory_bytes') as number) > 1e7);
  t.ok((found.get('process_cpu_seconds_total') as number) > 0);
  t.ok(
    (found.get('nodejs_eventloop_lag_max_seconds') as number) > 0.05,
    `lag ${found.get('nodejs_eventloop_lag_max_seconds')}`,
  );
  t.ok(processFacts().lag.max < 10);
});

t.test('probes and commands, never a label for each peer', async (t) => {
  const node = rig(t);
  const { agent } = node.start();
  await node.pass(0);
  const probe = { family: 4, address: ip('10.244.2.0'), loss: 0, fits: true, rounds: 10 } as const;
  const peer = (key: string, state: ProbeState, rttMs: number | undefined): PeerStatus => ({
    key,
    publicIp: [],
    state: 'programmed',
    probes: [{ ...probe, state, rttMs }],
  });
  const status = {
    ...agent.status(),
    peers: [peer('a', 'reachable', 1.5), peer('b', 'reachable', 4), peer('c', 'unreachable', undefined)],
    extension: { added: 2, running: 1, failing: [] },
  };
  const found = values(metricsText(status, FACTS));
  t.equal(found.get('flannel_probed_peers{state="reachable"}'), 2);
  t.equal(found.get('flannel_probed_peers{state="unreachable"}'), 1);
  t.equal(found.get('flannel_probe_rtt_max_seconds'), 0.004);
  t.equal(found.get('flannel_extension_running'), 1);
});

t.test('docs/metrics.md is what the table says', async (t) => {
  const again = `node -e "import('./flanneld/metrics.ts').then((m) => fs.writeFileSync('docs/metrics.md', m.metricsReference()))"`;
  t.equal(
    readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8'),
    metricsReference(),
    `make it again with: ${again}`,
  );
});
