// What pods forge gets nowhere: raw frames from inside a pod, and what arrives in another, through the whole agent.

import t, { type Test } from 'tap';
import { ip, linkLocal, mac } from '../../model/ip.ts';
import { type CniHost, compilePrograms } from '../support/cni-host.ts';
import { until } from '../support/cni-host-checks.ts';
import { type Frame, forgedFrames, honestFrames, type Party } from '../support/forged-frames.ts';
import { compileFrames, startFrames } from '../support/frames.ts';
import { endOf, FLAGS, makePolicyHost, MODES } from '../support/policy-host.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const FRAMES = compileFrames(bin);

async function attached(t: Test, node: CniHost, id: string, delegate: object): Promise<Party> {
  const { status, output } = await node.one('ADD', id, { config: { delegate } });
  t.equal(status, 0, JSON.stringify(output));
  const own = endOf(output);
  const [four = '', six = ''] = own.addresses;
  return { mac: mac(own.mac), four: ip(four), six: ip(six) };
}

/** Everything that any device in the namespace sees until the returned function is called, as one text. */
async function captured(node: CniHost, id: string) {
  const { child, text } = await startFrames(node, id, FRAMES, ['capture']);
  return { text, end: () => child.kill() };
}

const send = (node: CniHost, id: string, frames: readonly Frame[]): Promise<string> =>
  node.machine.must('ip', ['netns', 'exec', id, FRAMES, 'send', 'eth0'], {
    input: frames.map(({ frame }) => `${frame}\n`).join(''),
  });

const arrived = (text: string, frames: readonly Frame[]): string[] =>
  frames.filter(({ mark }) => text.includes(mark)).map(({ title }) => title);

const dropTables = (node: CniHost) =>
  node.machine.must('nft', ['delete table bridge flannel-guard; delete table inet flannel-guard']);

t.test('on a bridge', async (t) => {
  const node = await makePolicyHost(t, bin);
  await node.addPods(['own', 'victim', 'other']);
  let agent = await node.startAgent();
  const own = await attached(t, node, 'own', MODES.bridge);
  const victim = await attached(t, node, 'victim', MODES.bridge);
  const other = await attached(t, node, 'other', MODES.bridge);
  const frames = () => ({
    honest: honestFrames(own, victim, linkLocal(own.mac)),
    forged: forgedFrames(own, victim, other, linkLocal(own.mac)),
  });
  const titles = (list: readonly Frame[]) => list.map(({ title }) => title);
  const capture = await captured(node, 'victim');
  t.teardown(capture.end);

  const free = frames();
  await send(node, 'own', [...free.forged, ...free.honest]);
  await until(() => arrived(capture.text(), free.honest).length === free.honest.length);
  t.ok(arrived(capture.text(), free.forged).length > 20, 'without a policy source nearly all arrive');

  await agent.stop();
  agent = await node.startAgent({ flags: FLAGS });
  const guarded = async (what: string) => {
    const { honest, forged } = frames();
    const before = capture.text().length;
    const since = () => capture.text().slice(before);
    await send(node, 'own', [...forged, ...honest]);
    await until(
      () => arrived(since(), honest).length === honest.length,
      () => `${what}: only ${arrived(since(), honest)} of ${titles(honest)}`,
    );
    t.strictSame(arrived(since(), forged), [], what);
  };
  await guarded('pods from before');
  await dropTables(node);
  await until(async () => (await node.machine.must('nft', ['list', 'tables'])).includes('bridge flannel-guard'));
  await guarded('another program took the table away');
  await agent.kill();
  await guarded('without an agent');
  await node.machine.must('ip', ['link', 'set', 'cni0', 'type', 'bridge', 'nf_call_iptables', '0']);
  agent = await node.startAgent({ flags: FLAGS });
  const bridge = await node.machine.must('ip', ['-d', 'link', 'show', 'cni0']);
  t.match(bridge, /nf_call_iptables 1 nf_call_ip6tables 1/, 'set again');
  await guarded('with another');
  t.notMatch(agent.log(), 'flannel-guard', 'tables that are as they should be are left alone');

  for (const id of ['own', 'victim', 'other']) t.equal((await node.one('DEL', id)).status, 0);
  t.notMatch(await node.machine.must('nft', ['list', 'table', 'bridge', 'flannel-guard']), /elements/, 'all are gone');
  await agent.stop();
  agent = await node.startAgent();
  await until(async () => !(await node.machine.must('nft', ['list', 'tables'])).includes('flannel-guard'));
  t.equal(await agent.stop(), 0);
});

t.test('without a bridge', async (t) => {
  const node = await makePolicyHost(t, bin);
  await node.addPods(['own', 'victim', 'other']);
  const agent = await node.startAgent({ flags: FLAGS });
  const own = await attached(t, node, 'own', MODES.routed);
  const victim = await attached(t, node, 'victim', MODES.routed);
  const other = await attached(t, node, 'other', MODES.routed);
  const capture = await captured(node, 'victim');
  t.teardown(capture.end);
  const gateway = { ...victim, mac: mac(await gatewayMac(node, 'own')) };
  const honest = honestFrames(own, gateway, linkLocal(own.mac)).slice(0, 2);
  const forged = forgedFrames(own, gateway, other, linkLocal(own.mac));
  const before = await node.machine.must('ip', ['neighbour', 'show']);
  await send(node, 'own', [...forged, ...honest]);
  await until(() => arrived(capture.text(), honest).length === honest.length, capture.text);
  t.strictSame(arrived(capture.text(), forged), []);
  const permanent = (text: string) =>
    text
      .split('\n')
      .filter((line) => line.includes('PERMANENT'))
      .sort();
  t.strictSame(permanent(await node.machine.must('ip', ['neighbour', 'show'])), permanent(before));
  for (const id of ['own', 'victim', 'other']) t.equal((await node.one('DEL', id)).status, 0);
  t.notMatch(await node.machine.must('nft', ['list', 'table', 'inet', 'flannel-guard']), /elements/, 'all are gone');
  t.equal(await agent.stop(), 0);
});

async function gatewayMac(node: CniHost, id: string): Promise<string> {
  const text = await node.machine.must('ip', ['-n', id, '-j', 'neighbour', 'show', 'to', '169.254.1.1']);
  return (JSON.parse(text) as { lladdr: string }[])[0]?.lladdr ?? '';
}
