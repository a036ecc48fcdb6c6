// What is made from other files is as they are now, kustomize makes the same objects of its base, and the DaemonSet mounts
// what the agent and its clients reach for.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import packageJson from '../../package.json' with { type: 'json' };
import { generated } from '../../deploy/build.ts';
import { readCniList } from '../../flanneld/cni/list.ts';
import { parseArguments } from '../../flanneld/config.ts';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import { objectsOf } from './objects.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy');
const read = (path: string): string => readFileSync(join(DEPLOY, path), 'utf8');
const objects = objectsOf(read('kube-flannel-ts.yml'));

t.test('made files are up to date (node deploy/build.ts)', async (t) => {
  for (const [path, text] of Object.entries(generated(DEPLOY))) t.equal(read(path), text, path);
});

const kubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0;
t.test('the kustomize base gives the manifest', { skip: !kubectl && 'kubectl is not installed' }, async (t) => {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', join(DEPLOY, 'kustomize')], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  t.strictSame(objectsOf(stdout), objects);
});

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly securityContext: object;
  readonly volumeMounts: readonly { name: string; mountPath: string; mountPropagation?: string }[];
}
interface PodSpec {
  readonly initContainers: readonly [Container];
  readonly containers: readonly [Container];
  readonly volumes: readonly { name: string; hostPath?: { path: string } }[];
}
const { spec } = objects['DaemonSet kube-flannel/kube-flannel-ts'] as unknown as {
  spec: { template: { spec: PodSpec } };
};
const pod = spec.template.spec;

t.test('the containers are of this version, and their command lines are understood', async (t) => {
  for (const { image, args } of [pod.initContainers[0], pod.containers[0]]) {
    t.equal(image, `localhost/flannel-ts:${packageJson.version}`);
    const known = args.filter((word) => word !== '--kube-subnet-mgr');
    t.doesNotThrow(() => parseArguments(known, {}));
  }
});

t.test('the configuration is usable', async (t) => {
  const data = objects['ConfigMap kube-flannel/kube-flannel-ts-cfg']?.data as Record<string, unknown>;
  t.match(parseNetworkConfig(JSON.stringify(data['net-conf.json'])), { backend: { type: 'vxlan' } });
  const path = join(t.testdir({ list: JSON.stringify(data['cni-conf.json']) }), 'list');
  t.doesNotThrow(() => readCniList(path));
});

t.test('containers mount what they write to, and no more', async (t) => {
  const places = (container: Container) =>
    container.volumeMounts.map(({ name, mountPath, mountPropagation = '' }) => {
      const volume = pod.volumes.find((each) => each.name === name);
      return [mountPath, volume?.hostPath?.path, mountPropagation].join(' ').trim();
    });
  t.strictSame(places(pod.initContainers[0]), ['/opt/cni/bin /opt/cni/bin', '/etc/cni/net.d /etc/cni/net.d']);
  t.strictSame(places(pod.containers[0]), [
    '/etc/kube-flannel',
    '/etc/cni/net.d /etc/cni/net.d',
    '/run/flannel /run/flannel',
    '/var/lib/flannel /var/lib/flannel',
    '/var/lib/cni /var/lib/cni',
    '/run/netns /run/netns HostToContainer',
    '/var/run/netns /var/run/netns HostToContainer',
    '/run/xtables.lock /run/xtables.lock',
  ]);
  t.match(pod.initContainers[0].securityContext, { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } });
});
