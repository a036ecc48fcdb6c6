// The images of the kubelet tests, as archives that containerd imports: no registry is asked. The agents' by deploy/image.sh;
// the pods', which also holds their sandboxes open, is one static busybox.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';

const IMAGE_SCRIPT = join(import.meta.dirname, '../../deploy/image.sh');
const BUSYBOX = '/bin/busybox';

export const POD_IMAGE = 'localhost/busybox:test';
const AGENT_IMAGE = 'localhost/flannel-ts';
/** As the manifest names it. */
export const AGENT_TAG = '0.1.0';
export const agentImage = (tag: string): string => `${AGENT_IMAGE}:${tag}`;

/**
 * Builds the agents' image, which differs from that of another tag; path of its archive.
 * @throws Error with what the script said
 */
export function buildAgentImage(directory: string, tag: string): string {
  const output = join(directory, `agent-${tag}.tar`);
  const made = tag === AGENT_TAG ? {} : { SOURCE_DATE_EPOCH: String(Math.floor(Date.now() / 1000)) };
  execFileSync(IMAGE_SCRIPT, ['--name', agentImage(tag), '--output', output], {
    env: { ...process.env, ...made },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 600_000,
  });
  return output;
}

/** Path of the archive of POD_IMAGE, an OCI layout. Its own command waits for ever, as a sandbox does. */
export function buildPodImage(directory: string): string {
  const [layout, root] = [join(directory, 'layout'), join(directory, 'root')];
  const blobs = join(layout, 'blobs/sha256');
  for (const path of [blobs, ...['bin', 'dev', 'etc', 'proc', 'sys', 'tmp'].map((name) => join(root, name))])
    mkdirSync(path, { recursive: true });
  furnish(root);
  const layer = join(blobs, 'layer');
  execFileSync('tar', ['-c', '-C', root, '--sort=name', '--mtime=@0', '--numeric-owner', '-f', layer, '.']);
  const add = (type: string, bytes: Uint8Array, path?: string) => {
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (path === undefined) writeFileSync(join(blobs, digest), bytes);
    else renameSync(path, join(blobs, digest));
    return { mediaType: `application/vnd.oci.image.${type}`, digest: `sha256:${digest}`, size: bytes.length };
  };
  const json = (type: string, value: unknown) => add(type, Buffer.from(JSON.stringify(value)));
  const contents = add('layer.v1.tar', readFileSync(layer), layer);
  const platform = { architecture: arch() === 'x64' ? 'amd64' : arch(), os: 'linux' };
  const config = json('config.v1+json', {
    ...platform,
    config: { Env: ['PATH=/bin'], Cmd: ['sleep', '1000000000'] },
    rootfs: { type: 'layers', diff_ids: [contents.digest] },
  });
  const manifest = json('manifest.v1+json', { schemaVersion: 2, config, layers: [contents] });
  const annotations = { 'io.containerd.image.name': POD_IMAGE };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, platform, annotations }] };
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const archive = join(directory, 'pod.tar');
  execFileSync('tar', ['-c', '-C', layout, '-f', archive, '.']);
  return archive;
}

/** What is in the pods' image: busybox, with a name for each of its programs. */
function furnish(root: string): void {
  const busybox = join(root, 'bin/busybox');
  copyFileSync(BUSYBOX, busybox);
  chmodSync(busybox, 0o755);
  const names = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const name of names) if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
}
