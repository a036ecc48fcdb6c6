// install.sh --root: what it puts into a tree works from there, and uninstall leaves the tree as it was, byte for byte.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import t, { type Test } from 'tap';
import { count } from '../support/count.ts';
import { below, random } from '../support/seed.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const LIST = 'etc/cni/net.d/10-flannel.conflist';
const PLUGIN = 'opt/cni/bin/flannel';

const install = (root: string, ...args: string[]): string =>
  execFileSync('./install.sh', [...args, '--root', root], { encoding: 'utf8' });

/** Kind, mode, owner and content of everything in a tree. */
function picture(root: string): string[] {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).toSorted();
  return paths.map((path) => {
    const stat = lstatSync(join(root, path));
    const content = stat.isFile()
      ? createHash('sha256')
          .update(readFileSync(join(root, path)))
          .digest('hex')
      : stat.isSymbolicLink()
        ? readlinkSync(join(root, path))
        : 'folder';
    return `${path} ${stat.mode.toString(8)} ${stat.uid}:${stat.gid} ${content}`;
  });
}

function put(root: string, path: string, content: string, mode: number): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
  chmodSync(join(root, path), mode);
}

/** A node on which flannel is installed already. */
function withFlannel(root: string): void {
  put(root, PLUGIN, 'another \0 program\n', 0o4755);
  symlinkSync('flannel', join(root, 'opt/cni/bin/flannel-ipam'));
  put(root, 'opt/cni/bin/portmap', '#!/bin/sh\n', 0o755);
  put(root, LIST, '{"name":"mine"}', 0o600);
  mkdirSync(join(root, 'var/lib'), { recursive: true });
  put(root, 'run/flannel/subnet.env', 'FLANNEL_MTU=1450\n', 0o640);
  put(root, 'etc/flannel/net-conf.json', '{"Network":"10.1.0.0/16"}', 0o644);
}

function tree(t: Test, prepare: (root: string) => void = () => {}): string {
  const root = temporaryDirectory(t);
  prepare(root);
  return root;
}

for (const [name, prepare] of [
  ['an empty tree', () => {}],
  ['a tree with flannel', withFlannel],
] as const) {
  t.test(`${name} is as before after uninstall, also after a second installation`, async (t) => {
    const root = tree(t, prepare);
    const before = picture(root);
    install(root);
    install(root);
    t.notSame(picture(root), before);
    install(root, 'uninstall');
    t.strictSame(picture(root), before);
  });
}

t.test('without --root it is the host itself, and uninstall leaves that as it was too', async (t) => {
  const layers = tree(t);
  const folders = ['etc', 'opt', 'usr', 'var/lib'];
  for (const name of folders)
    for (const layer of ['upper', 'work']) mkdirSync(join(layers, name, layer), { recursive: true });
  const overlay = (name: string) =>
    `mount -t overlay -o lowerdir=/${name},upperdir=${layers}/${name}/upper,workdir=${layers}/${name}/work overlay /${name}`;
  const script = [
    'set -e',
    ...folders.map(overlay),
    './install.sh',
    'ls /usr/lib/flannel-ts',
    './install.sh uninstall',
  ];
  const listing = execFileSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script.join('\n')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.match(listing, /^flanneld$/m);
  const changed = folders.flatMap((name) =>
    readdirSync(join(layers, name, 'upper'), { recursive: true, withFileTypes: true })
      .map(
        (entry) =>
          [entry, join('/', name, relative(join(layers, name, 'upper'), entry.parentPath), entry.name)] as const,
      )
      .filter(([entry, path]) => !entry.isDirectory() || !existsSync(path))
      .map(([, path]) => path),
  );
  t.strictSame(changed, []);
});

t.test('the list asks for host ports and bandwidth, and every executable has its name', async (t) => {
  const root = tree(t);
  install(root);
  const [plugin, ...others] = JSON.parse(readFileSync(join(root, LIST), 'utf8')).plugins;
  t.match(plugin, { type: 'flannel', capabilities: { portMappings: true, bandwidth: true } });
  t.strictSame(others, []);
  for (const name of ['flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth']) {
    const { stdout, stderr } = spawnSync(join(root, 'opt/cni/bin', name), [], { env: {}, encoding: 'utf8' });
    t.match(stdout + stderr, `CNI plugin ${name} `);
  }
});

/** Runs under the Node.js of an installation, with the flags that its launcher gives. */
function nodeOf(root: string, code: string): string {
  const launcher = readFileSync(join(root, 'usr/bin/flanneld'), 'utf8');
  const flags = /exec "\$node" (.*) "\$root\/bundle/.exec(launcher)?.[1]?.split(' ') ?? [];
  const packages = join(root, 'usr/lib/flannel-ts/node_modules');
  const name = readdirSync(packages).find((each) => each.startsWith('node-linux-')) as string;
  return execFileSync(join(packages, name, 'bin/node'), [...flags, '-e', code], { encoding: 'utf8' });
}

t.test('the agent starts from what V8 has compiled, and without it too', async (t) => {
  const root = tree(t);
  install(root);
  const folder = join(root, 'usr/lib/flannel-ts/bundle');
  const version = () => execFileSync(join(root, 'usr/bin/flanneld'), ['--version'], { encoding: 'utf8' });
  const isRefused = () =>
    nodeOf(
      root,
      `process.chdir(${JSON.stringify(folder)});
      const cachedData = fs.readFileSync('agent.v8');
      console.log(new vm.Script(fs.readFileSync('agent.js', 'latin1'), { cachedData }).cachedDataRejected)`,
    ).trim();
  t.equal(isRefused(), 'false', 'it was made with the same flags');
  const said = version();
  const whole = readFileSync(join(folder, 'agent.v8'));
  for (const damaged of [Buffer.alloc(0), Buffer.from('no code'), whole.subarray(0, 1_000_000)]) {
    writeFileSync(join(folder, 'agent.v8'), damaged);
    t.equal(version(), said, `${damaged.length} bytes`);
  }
  t.equal(isRefused(), 'true');
  rmSync(join(folder, 'agent.v8'));
  t.equal(version(), said, 'nothing');
});

t.test('installed executables run without PATH, HOME or a fixed folder', async (t) => {
  const root = tree(t);
  install(root, '--cni-bin-dir', '/usr/libexec/cni');
  const plugin = join(root, 'usr/libexec/cni/flannel');
  const link = join(root, 'flannel');
  symlinkSync(plugin, link);
  for (const path of [plugin, link]) {
    const { stdout } = spawnSync(path, [], {
      input: '{"cniVersion":"1.0.0"}',
      env: { CNI_COMMAND: 'VERSION' },
      cwd: '/',
      encoding: 'utf8',
    });
    t.match(stdout, /supportedVersions/);
  }
  t.equal(spawnSync(join(root, 'usr/bin/flanneld'), ['--help'], { env: {}, cwd: '/' }).status, 0);
});

t.test('what somebody changed since the installation stays', async (t) => {
  const root = tree(t, withFlannel);
  install(root);
  writeFileSync(join(root, LIST), 'changed');
  t.match(install(root), /kept:.*10-flannel\.conflist/);
  t.match(install(root, 'uninstall'), /kept:.*10-flannel\.conflist/);
  t.equal(readFileSync(join(root, LIST), 'utf8'), 'changed');
  t.equal(readFileSync(join(root, `${LIST}.before-flannel-ts`), 'utf8'), '{"name":"mine"}');
});

t.test('an installation and a removal that were killed are taken away too', async (t) => {
  const next = random('install');
  for (let round = 0; round < count(60); round++) {
    const root = tree(t, withFlannel);
    const before = picture(root);
    for (const verb of [[], ['uninstall']]) {
      // timeout(1) kills the whole process group: a child that outlives the script would write on.
      const seconds = String(0.005 + below(300, next) / 1000);
      spawnSync('timeout', ['-s', 'KILL', seconds, './install.sh', ...verb, '--root', root]);
    }
    if (existsSync(join(root, 'var/lib/flannel-ts'))) install(root, 'uninstall');
    t.strictSame(picture(root), before, `round ${round}`);
    rmSync(root, { recursive: true });
  }
});

t.test('errors are one clear line and change nothing', async (t) => {
  const root = tree(t, (root) => put(root, 'usr/lib/flannel-ts/theirs', '', 0o644));
  const before = picture(root);
  for (const [args, words] of [
    [['uninstall', '--root', root], /there is no installation/],
    [['--root', root], /was not put there by install\.sh/],
    [['--root', join(root, 'none')], /no such directory/],
    [['--cni-bin-dir', 'relative', '--root', root], /absolute path/],
    [['--bogus'], /unknown argument: --bogus/],
  ] as const) {
    const { status, stderr } = spawnSync('./install.sh', args, { encoding: 'utf8' });
    t.equal(status, 1);
    t.match(stderr, words);
    t.equal(stderr.trim().split('\n').length, 1);
  }
  t.strictSame(picture(root), before);
});
