// The container image as image.sh builds it: an archive that is what it says, in which everything finds its libraries, and
// which serves the runtime of its node with the mounts of the manifest.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import packageJson from '../../package.json' with { type: 'json' };
import { compilePrograms, makeHost, type Verb } from '../support/cni-host.ts';
import { isClean, until } from '../support/cni-host-checks.ts';
import { containersOf } from '../support/container.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const ROOT = join(import.meta.dirname, '../..');
const LIST = '/etc/cni/net.d/10-flannel.conflist';
const isBookworm = /^VERSION_CODENAME=bookworm$/m.test(readFileSync('/etc/os-release', 'utf8'));
/** Of image.sh: the packages that it is made of can't be downloaded. */
const UNOBTAINABLE = 3;

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

const directory = temporaryDirectory(t);
const root = join(directory, 'root');
const archive = join(directory, 'image.tar');

const build = () =>
  spawnSync(join(ROOT, 'deploy/image.sh'), ['--output', archive], { encoding: 'utf8', timeout: 240_000 });
const built = isBookworm ? build() : undefined;
const skip =
  (!isBookworm && 'the image is made of packages of Debian 12') ||
  (built?.status === UNOBTAINABLE && 'the packages of Debian 12 can not be downloaded');

t.test('the archive is an OCI image of the agent', { skip }, async (t) => {
  t.equal(built?.status, 0, built?.stderr ?? '');
  const report = built?.stdout ?? '';
  t.comment(report);
  t.match(report, /^start: +\d+ ms/m);
  const layout = join(directory, 'layout');
  mkdirSync(layout);
  execFileSync('tar', ['-xf', archive, '-C', layout]);
  const text = ({ digest, size }: Descriptor): string => {
    const path = join(layout, 'blobs', digest.replace(':', '/'));
    const bytes = readFileSync(path);
    t.equal(bytes.length, size);
    t.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest);
    return path;
  };
  const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
  t.strictSame(json(join(layout, 'oci-layout')), { imageLayoutVersion: '1.0.0' });
  const [entry] = json(join(layout, 'index.json')).manifests;
  t.equal(entry.annotations['io.containerd.image.name'], `localhost/flannel-ts:${packageJson.version}`);
  const manifest = json(text(entry));
  const config = json(text(manifest.config));
  t.match(config, { os: 'linux', config: { Entrypoint: ['/usr/bin/flanneld'] } });
  mkdirSync(root);
  manifest.layers.forEach((layer: Descriptor, index: number) => {
    const path = text(layer);
    const contents = execFileSync('gzip', ['-dc', path], { maxBuffer: 1 << 30 });
    t.equal(`sha256:${createHash('sha256').update(contents).digest('hex')}`, config.rootfs.diff_ids[index]);
    execFileSync('tar', ['-x', '-C', root, '--keep-directory-symlink'], { input: contents });
  });
  t.equal(readdirSync(join(layout, 'blobs/sha256')).length, manifest.layers.length + 2, 'nothing else is in it');
  const first = readFileSync(archive);
  t.equal(build().status, 0);
  t.ok(readFileSync(archive).equals(first), 'again, the same bytes');
});

const inside = (...words: string[]) =>
  spawnSync('chroot', [root, ...words], { encoding: 'utf8', env: { PATH: '/usr/sbin:/usr/bin' }, timeout: 60_000 });

t.test('programs run in it with their libraries, and what nobody needs is not there', { skip }, async (t) => {
  t.match(inside('flanneld', '--version').stdout, `flanneld ${packageJson.version}`);
  t.match(inside('flanneld', '--help').stdout, /^Usage: flanneld/);
  for (const program of ['nft', 'iptables', 'iptables-legacy', 'ip6tables-legacy']) {
    const { status, stdout, stderr } = inside(program, '--version');
    t.equal(status, 0, stderr);
    t.match(stdout, / v\d/);
  }
  const libraries = readdirSync(join(root, 'usr/lib'), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(so(\.[\d.]+)?|node)$/.test(path) && !path.includes('musl'))
    .map((path) => `/usr/lib/${path}`)
    .filter((path) => statSync(join(root, path)).isFile());
  t.ok(libraries.length > 20);
  const [loader = ''] = readdirSync(join(root, 'usr/lib64'));
  const unresolved = libraries.filter((path) => /not found/.test(inside(`/lib64/${loader}`, '--list', path).stdout));
  t.strictSame(unresolved, []);
  for (const path of ['usr/share/man', 'usr/bin/perl', 'usr/bin/apt', 'usr/lib/flannel-ts/flanneld']) {
    t.notOk(existsSync(join(root, path)), `no ${path}`);
  }
});

t.test('it serves the runtime of its node', { skip }, async (t) => {
  const host = await makeHost(t, compilePrograms(t));
  const { machine } = host;
  // As on a node: what the runtime mounts reaches containers. Plugins and lists of the machine that it runs on are not there.
  await machine.must('sh', ['-ec', 'mount -t tmpfs tmpfs /opt; rm -rf /etc/cni/net.d; mount --make-rshared /']);
  const manifest = join(ROOT, 'deploy/kube-flannel-ts.yml');
  const containers = await containersOf({ machine, root, scratch: directory, manifest });
  const installed = await containers.run('install-cni');
  t.equal(installed.code, 0, installed.stderr);
  t.equal(readFileSync(host.path('/run/etc/cni/net.d/.flannel-agent'), 'utf8'), '60\n');
  const listIsThere = () => existsSync(host.path(LIST));
  t.notOk(listIsThere(), 'no list before an agent is ready');

  const start = () =>
    containers.start('flanneld', (args) => ['--cni-only', ...args.filter((word) => !/kube-subnet-mgr/.test(word))]);
  const call = async (verb: Verb) => {
    const { environment, input } = host.call(verb);
    const env = { ...environment, CNI_PATH: '/opt/cni/bin' };
    const { code, stdout } = await machine.run('/opt/cni/bin/flannel', [], { env, input, timeoutMs: 90_000 });
    t.equal(code, 0, `${verb.command} ${verb.id}: ${stdout}`);
    return stdout;
  };

  let agent = start();
  t.teardown(() => agent.kill());
  await until(listIsThere, () => agent.log());
  const probe = (path: string) => machine.must('curl', ['-fsS', '-m', '10', `http://127.0.0.1:10244${path}`]);
  t.match(await probe('/readyz'), /^ready/);
  t.match(await probe('/healthz'), /running/);
  await host.addPods(['pod0', 'pod1', 'pod2']);
  t.match(JSON.parse(await call({ command: 'ADD', id: 'pod0' })).ips[0].address, /^10\.5\.16\./);
  await call({ command: 'ADD', id: 'pod1', netns: '/var/run/netns/pod1' });
  const ping = ['-c', 'ip netns exec pod0 ping -c 1 -W 5 "$(ip netns exec pod1 hostname -I | cut -d " " -f 1)"'];
  await machine.must('sh', ping);

  await agent.kill();
  const waiting = call({ command: 'ADD', id: 'pod2' });
  agent = start();
  await waiting;
  for (const id of ['pod0', 'pod1', 'pod2']) await call({ command: 'DEL', id });
  await isClean(t, host, 'after all deletions');

  await agent.kill();
  const removed = await containers.run('install-cni', () => ['uninstall-cni']);
  t.equal(removed.code, 0, removed.stderr);
  t.strictSame(readdirSync(host.path('/opt/cni/bin')), []);
  t.strictSame(readdirSync(host.path('/etc/cni/net.d')), ['10-flannel.conflist'], 'a list that it was not told of');
});
