// The start of a pod that policies isolate: peers send to its addresses from before its namespace exists, a process inside
// sends from before ADD, agents are killed meanwhile, and the addresses belonged to pods with live flows. Nothing gets
// through, as both ends of the pair see it.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { ip, toBytes } from '../../model/ip.ts';
import { count } from '../support/count.ts';
import { type CniHost, compilePrograms } from '../support/cni-host.ts';
import { until } from '../support/cni-host-checks.ts';
import { below, random } from '../support/seed.ts';
import { compileFrames, startFrames } from '../support/frames.ts';
import { endOf, FLAGS, makePolicyHost, MODES } from '../support/policy-host.ts';

t.setTimeout(0);
const bin = compilePrograms(t);
const FRAMES = compileFrames(bin);
/** So few addresses that each is given again and again. */
const LENGTHS = { 4: 29, 6: 125 };
const ADDRESSES = Array.from({ length: 5 }, (_, at) => [`10.5.16.${at + 2}`, `fd00:5:0:1::${at + 2}`]).flat();
/** So that `npm test` has 25 in both modes together. */
const STARTS = Math.ceil(count(500) / 2);
const MOST_KILL_MS = 40;
const [FROM_PEER, FROM_POD] = ['sent-by-a-peer', 'sent-by-the-pod'];

const podOf = (name: string, role: string) =>
  `kind: Pod\napiVersion: v1\nmetadata: { name: ${name}, namespace: x, labels: { role: ${role} } }\nspec: {}\n---\n`;
const MANIFESTS = `${podOf('peer', 'peer')}${podOf('open', 'open')}${podOf('shut', 'shut')}kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: { name: shut, namespace: x }
spec: { podSelector: { matchLabels: { role: shut } }, policyTypes: [Ingress, Egress] }
`;

interface Racer {
  /**
   * A frame of the other side to the MAC and one of the addresses, in hexadecimal. One to another pair may come by the MAC that
   * a pod before, or this one before its agent was killed, had with that address: nobody takes it.
   */
  seen(mac: string, addresses: readonly string[]): string | undefined;
  end(): Promise<void>;
}

/** Of IPv4 at byte 30, of IPv6 at 38, up to its end. */
const destinationOf = (frame: string): string =>
  frame.slice(24, 28) === '0800' ? frame.slice(60, 68) : frame.slice(76, 108);

/** Sends `mark` to the addresses, and looks for `looked`, in a namespace. */
async function racer(node: CniHost, id: string, mark: string, looked: string, to: readonly string[]): Promise<Racer> {
  const { child, text } = await startFrames(node, id, FRAMES, ['race', mark, looked, ...to]);
  return {
    seen(mac, addresses) {
      const bytes = addresses.map((address) => Buffer.from(toBytes(ip(address))).toString('hex'));
      const frames = [...text().matchAll(/^seen (\w+)$/gm)].map(([, frame = '']) => frame);
      const isTo = (frame: string) => frame.startsWith(mac.replaceAll(':', ''));
      return frames.find((frame) => isTo(frame) && bytes.some((each) => destinationOf(frame).endsWith(each)));
    },
    async end() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill();
      await ended;
    },
  };
}

for (const [mode, delegate] of Object.entries(MODES)) {
  t.test(mode, async (t) => starts(t, delegate));
}

async function starts(t: Test, delegate: object): Promise<void> {
  const node = await makePolicyHost(t, bin, { lengths: LENGTHS, expected: 60 });
  node.manifest('all', MANIFESTS);
  const next = random('policy-start');
  let agent = await node.startAgent({ flags: FLAGS });
  const verb = (command: string, id: string, name: string) => node.verb(command, id, delegate, name);
  await node.addPods(['peer']);
  const { output, status } = await verb('ADD', 'peer', 'peer');
  t.equal(status, 0, JSON.stringify(output));
  const { mac: ownMac, addresses: own } = endOf(output);
  const others = ADDRESSES.filter((address) => !own.includes(address));

  /** One start, with racers at both ends from before the interface is there. Whether either has seen the other. */
  async function start(id: string, name: string, killing: boolean): Promise<boolean> {
    const peer = await racer(node, 'peer', FROM_PEER, FROM_POD, others);
    await node.addPods([id]);
    const pod = await racer(node, id, FROM_POD, FROM_PEER, own);
    const adding = verb('ADD', id, name);
    if (killing) {
      // Anywhere in the ADD, before it and after it.
      await sleep(below(MOST_KILL_MS, next));
      await agent.kill();
      agent = await node.startAgent({ flags: FLAGS });
    }
    const first = await adding;
    const added = first.status === 0 ? first : await verb('ADD', id, name);
    t.equal(added.status, 0, `${id}: ${JSON.stringify(added.output)}`);
    const { mac, addresses } = endOf(added.output);
    const [atPod, atPeer] = [() => pod.seen(mac, addresses), () => peer.seen(ownMac, own)];
    const seen = () => atPod() ?? atPeer();
    if (name === 'open') await until(() => atPod() !== undefined && atPeer() !== undefined);
    else {
      // Long enough for all that waited for neighbours.
      await node.machine.run('ping', ['-c', '3', '-i', '0.1', addresses[0] ?? '']);
      t.equal(seen(), undefined, `${id}: nothing passed`);
    }
    t.equal((await verb('DEL', id, name)).status, 0);
    await Promise.all([peer.end(), pod.end()]);
    await node.machine.must('ip', ['netns', 'delete', id]);
    return seen() !== undefined;
  }

  for (let at = 0; at < STARTS; at++) {
    t.ok(await start(`open${at}`, 'open', false), 'an open pod and its peer reach each other');
    t.notOk(await start(`shut${at}`, 'shut', at % 3 === 2), 'a shut one never does');
  }
  t.equal(await agent.stop(), 0);
}
