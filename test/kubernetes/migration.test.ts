// From flannel to ours and back, node by node, as docs/migrate-from-flannel.md says: flannel's own agent and CNI plugin, the
// reference plugins, a real API server. Pods reach each other all the time, and keep what they have.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { hasPeers, hasSubnet, type Node, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { endChild } from '../../examples/cluster/machine.ts';
import { executeCni, FLANNEL_CONFIG, type Pod, startPod } from '../../examples/cluster/pod.ts';
import type { KubeObject } from '../../flanneld/kube/list-watch.ts';
import { flannelAgent, flannelPlugins, lacksFlannel } from './flannel.ts';
import { lacking, openStage, reasonOf, SINGLE, reachEachOther } from './stage.ts';

const SLOW = 90_000;
const PODS = '/api/v1/namespaces/default/pods';
const POLICIES = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
const DATA = 'flannel.alpha.coreos.com/backend-data';
const THEIRS = { ...FLANNEL_CONFIG, cniVersion: '0.3.1' };
const HOST_PORT = 8081;
/** Seconds between two packets of steady traffic, and how many may be lost: as long as an agent takes to start. */
const [INTERVAL, MOST_LOST] = [0.02, 100];

interface Steady {
  readonly name: string;
  /** Ends it. @returns packets that were sent and had no answer */
  lost(): Promise<number>;
}

/** Packets from one pod to another until it is ended. */
function steady(from: Pod, to: Pod): Steady {
  const ping = ['-n', '-q', '-i', String(INTERVAL), to.ips[0] as string];
  const child = from.node.start('nsenter', [`--net=/run/netns/${from.name}`, 'ping', ...ping]);
  let said = '';
  child.stdout?.on('data', (chunk) => (said += chunk));
  return {
    name: `${from.name} to ${to.name}`,
    async lost() {
      const closed = once(child, 'close');
      child.kill('SIGINT');
      await closed;
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? [];
      return Number(sent) - Number(received);
    },
  };
}

/** What a pod and its peers would notice if it changed. */
async function kept(node: Node) {
  const links = JSON.parse(await node.must('ip', ['-json', 'address', 'show'])) as {
    ifindex: number;
    ifname: string;
    address: string;
    addr_info: { local: string }[];
  }[];
  const device = (name: string) => {
    const { ifindex, address, addr_info } = links.find(({ ifname }) => ifname === name) as (typeof links)[number];
    return { ifindex, address, ips: addr_info.map(({ local }) => local).filter((ip) => !ip.startsWith('fe80')) };
  };
  return {
    bridge: device('cni0'),
    vxlan: device('flannel.1'),
    subnet: /^FLANNEL_SUBNET=.*$/m.exec(await node.must('cat', ['/run/flannel/subnet.env']))?.[0],
  };
}

const reservations = async (node: Node): Promise<string[]> =>
  (await node.must('ls', ['/var/lib/cni/networks/cbr0'])).split('\n').filter((name) => /^\d/.test(name));

t.test(
  'node by node, and back',
  { skip: lacking(['kube-apiserver', 'kube-controller-manager']) || lacksFlannel() },
  async (t: Test) => {
    const { cluster, plane, configure, configFlag } = await openStage(t, 3, SINGLE);
    const [n1, n2, n3] = cluster.nodes as [Node, Node, Node];
    configure({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
    const cniBin = flannelPlugins(`${cluster.logs}/cni-plugins`);
    const agents = new Map<Node, ChildProcess>();
    const startFlannel = (node: Node) =>
      void agents.set(node, plane.startAgent(node, { program: flannelAgent(), flags: [configFlag] }));
    const startOurs = (node: Node) =>
      void agents.set(node, plane.startAgent(node, { flags: [configFlag, '--policy-source=kube'] }));
    const annotation = async (node: Node) =>
      (await plane.call<KubeObject>('GET', `/api/v1/nodes/${node.name}`)).metadata.annotations?.[DATA];

    /** As the API server has it too, whichever plugin attaches it. */
    async function makePod(node: Node, name: string, options: object = {}): Promise<Pod> {
      await plane.call('POST', PODS, {
        metadata: { name, labels: { name } },
        spec: { nodeName: node.name, containers: [{ name: 'c', image: 'none' }] },
      });
      const pod = await startPod(node, { name, ...options });
      // Runtimes execute the reference plugin loopback; ours needs none.
      await node.must('ip', ['netns', 'exec', name, 'ip', 'link', 'set', 'lo', 'up']);
      const status = { podIP: pod.ips[0], podIPs: pod.ips.map((ip) => ({ ip })) };
      await plane.call('PATCH', `${PODS}/${name}/status`, { status });
      return pod;
    }
    const theirPod = (node: Node, name: string) => makePod(node, name, { cniBin, config: THEIRS });

    /** Whether the pod reaches p1, waiting for what is expected. */
    const settles = async (what: string, from: Pod, expected: boolean) => {
      const to = p1.ips[0] as string;
      const met = async () => (await from.probe({ kind: 'tcp', to })).ok === expected;
      await until(what, met, SLOW).then(
        () => t.pass(what),
        (error) => t.fail(what, { error: String(error) }),
      );
    };
    const reach = (what: string, pods: readonly Pod[]) => reachEachOther(t, what, pods, SLOW);

    for (const node of cluster.nodes) {
      await plane.addNode(node.name);
      // flannel ends with a panic on a Node without any annotation; kubelets give it some.
      await plane.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata: { annotations: { kubelet: 'true' } } });
      await plane.podCidrs(node.name);
      await plane.giveServiceAccount(node);
      startFlannel(node);
    }
    for (const node of cluster.nodes) await until(`${node.name}: flannel's subnet`, () => hasSubnet(node), SLOW);
    const account = () => plane.call('GET', '/api/v1/namespaces/default/serviceaccounts/default');
    await until('the service account of pods', () => account().then(Boolean, () => false), SLOW);
    const p1 = await theirPod(n1, 'p1');
    const [p2, p3] = [await theirPod(n2, 'p2'), await theirPod(n3, 'p3')];
    const portMappings = [{ hostPort: HOST_PORT, containerPort: 8080, protocol: 'tcp' }];
    const portmap = { ...THEIRS, type: 'portmap', prevResult: p1.result, runtimeConfig: { portMappings } };
    t.match(await executeCni(n1, 'ADD', { name: 'p1', cniBin, config: portmap }), { code: 0 });
    await reach('flannel: every pod reaches every pod', [p1, p2, p3]);
    const hostPort = () => p2.probe({ kind: 'tcp', to: n1.underlay[4], port: HOST_PORT });
    t.match(await hostPort(), { ok: true }, "flannel: p1's host port");
    await plane.call('POST', POLICIES, {
      metadata: { name: 'p1' },
      spec: {
        podSelector: { matchLabels: { name: 'p1' } },
        policyTypes: ['Ingress'],
        ingress: [{ from: [{ podSelector: { matchLabels: { name: 'p2' } } }] }],
      },
    });

    const traffic = [steady(p1, p2), steady(p2, p3), steady(p3, p2)];
    const pods = [p2, p3];

    await t.test('n1, while the API server is away: policies hold only once they are known', async (t) => {
      const before = await kept(n1);
      await plane.killServer();
      await endChild(agents.get(n1) as ChildProcess);
      startOurs(n1);
      await until('n1 waits', async () => /API server/.test((await reasonOf(n1)) ?? ''), SLOW);
      t.ok((await p3.probe({ kind: 'tcp', to: p1.ips[0] as string })).ok, 'a pod that is there is not shut meanwhile');
      t.match(await hostPort(), { ok: true }, 'its host port works');
      t.notMatch(await n1.must('nft', ['list', 'tables']), /flannel-policy/);
      await plane.startServer();
      await until('n1: two peers', () => hasPeers(n1, 2), SLOW);
      t.strictSame(await kept(n1), before, 'bridge, device and subnet are the same');
    });
    await settles('p1 is isolated, though flannel attached it', p3, false);
    await settles('and reached by the pod that may', p2, true);
    pods.push(await makePod(n1, 'new-n1'));

    for (const node of [n2, n3]) {
      const [before, data] = [await kept(node), await annotation(node)];
      await endChild(agents.get(node) as ChildProcess);
      startOurs(node);
      await until(`${node.name}: two peers`, () => hasPeers(node, 2), SLOW);
      t.strictSame(await kept(node), before, `${node.name}: bridge, device and subnet are the same`);
      t.equal(await annotation(node), data, 'and what peers know of it');
      const taken = await reservations(node);
      const pod = await makePod(node, `new-${node.name}`);
      t.notOk(taken.includes(pod.ips[0] as string), 'a new pod has an address of its own');
      pods.push(pod);
      await reach(`${node.name}: every pod reaches every pod`, pods);
    }

    await t.test('DEL of a pod that flannel attached', async (t) => {
      const chains = async () => (await n1.must('iptables-save', ['-t', 'nat'])).match(/^:CNI-(DN-)?[\da-f]+/gm) ?? [];
      t.equal((await chains()).length, 1, "portmap's");
      await (traffic.shift() as Steady).lost();
      t.match(await executeCni(n1, 'DEL', { name: 'p1' }), { code: 0 });
      t.strictSame(await chains(), []);
      t.notOk((await reservations(n1)).includes(p1.ips[0] as string));
      t.not((await n1.run('test', ['-e', '/var/lib/cni/flannel/p1'])).code, 0, "flannel's file");
      t.notMatch(await n1.must('ip', ['netns', 'exec', 'p1', 'ip', 'link']), /eth0/);
      await plane.call('DELETE', `${PODS}/p1?gracePeriodSeconds=0`);
      await plane.call('DELETE', `${POLICIES}/p1`);
      await until('no policy', async () => !/flannel-policy/.test(await n1.must('nft', ['list', 'tables'])), SLOW);
    });

    await t.test('and back', async (t) => {
      for (const node of cluster.nodes) {
        const [before, data] = [await kept(node), await annotation(node)];
        await stopAgent(agents.get(node) as ChildProcess);
        // As the page says.
        for (const table of ['inet flannel', 'inet flannel-policy', 'inet flannel-guard', 'bridge flannel-guard'])
          await node.run('nft', ['delete', 'table', ...table.split(' ')]);
        startFlannel(node);
        await until(
          `${node.name}: flannel's rules`,
          async () => (await node.run('iptables', ['-t', 'nat', '-S', 'FLANNEL-POSTRTG'])).code === 0,
          SLOW,
        );
        t.strictSame(await kept(node), before, `${node.name}: bridge, device and subnet are the same`);
        t.equal(await annotation(node), data);
        const taken = await reservations(node);
        const pod = await theirPod(node, `back-${node.name}`);
        t.notOk(taken.includes(pod.ips[0] as string), 'a new pod has an address of its own');
        pods.push(pod);
      }
      await reach('flannel again: every pod reaches every pod', pods);
    });
    for (const each of traffic) {
      const lost = await each.lost();
      t.ok(lost <= MOST_LOST, `${each.name}: ${lost} packets were lost`);
    }
    for (const agent of agents.values()) await endChild(agent);
  },
);
