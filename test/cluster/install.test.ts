// ./install.sh --root DIR: the installed plugin and agent work from there, and uninstall leaves DIR as it was, byte for
// byte, also where flannel was installed before.

import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { hasSubnet, type Node, startCluster, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const install = (...args: string[]) =>
  execFileSync('./install.sh', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Every entry below a directory: path, type, mode, content. */
function tree(directory: string, below = ''): string[] {
  return readdirSync(`${directory}/${below}`)
    .sort()
    .flatMap((name) => {
      const path = `${below}/${name}`;
      const { mode } = lstatSync(directory + path);
      const entry = `${path} ${mode.toString(8)}`;
      if ((mode & 0o170000) === 0o040000) return [entry, ...tree(directory, path)];
      if ((mode & 0o170000) === 0o120000) return [`${entry} ${readlinkSync(directory + path)}`];
      return [
        `${entry} ${createHash('sha256')
          .update(readFileSync(directory + path))
          .digest('hex')}`,
      ];
    });
}

function withFlannel(directory: string): void {
  for (const path of ['opt/cni/bin', 'etc/cni/net.d', 'run/flannel'])
    mkdirSync(`${directory}/${path}`, { recursive: true });
  writeFileSync(`${directory}/opt/cni/bin/flannel`, '#!/bin/sh\necho the Go flannel\n');
  chmodSync(`${directory}/opt/cni/bin/flannel`, 0o751);
  writeFileSync(`${directory}/etc/cni/net.d/10-flannel.conflist`, '{"name":"cbr0","plugins":[]}\n');
  chmodSync(`${directory}/etc/cni/net.d/10-flannel.conflist`, 0o640);
  writeFileSync(`${directory}/run/flannel/subnet.env`, 'FLANNEL_NETWORK=10.244.0.0/16\n');
}

for (const [what, prepare] of [
  ['an empty directory', () => undefined],
  ['a directory with flannel in it', withFlannel],
] as const) {
  t.test(`install into ${what} and take it away again`, async (t) => {
    const root = temporaryDirectory(t);
    prepare(root);
    const before = tree(root);
    const said = install('--root', root);
    t.match(said, /flanneld/, 'says what it did');
    t.notSame(tree(root), before);
    const installed = tree(root);
    install('--root', root);
    t.same(tree(root), installed, 'installing twice is installing once');
    install('uninstall', '--root', root);
    t.same(tree(root), before, 'as it was, byte for byte');
  });
}

t.test('the installed plugin and agent at work', async (t) => {
  const root = temporaryDirectory(t);
  install('--root', root);
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  const agents = cluster.nodes.map((node) => cluster.startAgent(node, [], { program: `${root}/usr/bin/flanneld` }));
  await Promise.all(cluster.nodes.map((node) => until(`${node.name}: subnet file`, () => hasSubnet(node))));
  const list = JSON.parse(readFileSync(`${root}/etc/cni/net.d/10-flannel.conflist`, 'utf8'));
  const config = { cniVersion: list.cniVersion, name: list.name, ...list.plugins[0] };
  const pods = await Promise.all(
    cluster.nodes.map((node: Node) =>
      startPod(node, { name: `${node.name}-a`, cniBin: `${root}/opt/cni/bin`, config }),
    ),
  );
  const [a, b] = pods as [(typeof pods)[0], (typeof pods)[0]];
  await until('ping across', async () => (await a.probe({ kind: 'ping', to: b.ips[0] as string })).ok, 10_000);
  const { detail } = await b.probe({ kind: 'tcp', to: a.ips[0] as string });
  t.equal(detail, `n1-a ${b.ips[0]}`);
  for (const pod of pods) t.equal((await pod.cni('CHECK')).stdout, '', 'CHECK is content');
  for (const pod of pods) await pod.remove();
  for (const agent of agents) await stopAgent(agent);
});
