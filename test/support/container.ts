// A container as a runtime starts one from the image and the DaemonSet: its root, the manifest's mounts with their propagation,
// process and mount namespaces of its own, the network of its machine. Without a runtime.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { Machine, Outcome } from '../../examples/cluster/machine.ts';
import { type AgentProcess, agentProcess } from './agent-process.ts';

interface ContainerSpec {
  readonly name: string;
  readonly args: readonly string[];
  readonly volumeMounts: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly mountPropagation?: string;
  }[];
}

interface PodSpec {
  readonly initContainers: readonly ContainerSpec[];
  readonly containers: readonly ContainerSpec[];
  readonly volumes: readonly {
    readonly name: string;
    readonly hostPath?: { readonly path: string; readonly type: string };
    readonly configMap?: { readonly name: string };
  }[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: { readonly template: { readonly spec: PodSpec } };
}

export interface ContainerPlace {
  readonly machine: Machine;
  /** The unpacked image. */
  readonly root: string;
  /** Directory for the volumes of ConfigMaps. */
  readonly scratch: string;
  /** Path of the manifest. */
  readonly manifest: string;
}

/** Mounts triples of source, place and propagation until a `--`, then becomes the rest. */
const ENTER = `set -e; root=$1; shift
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$2"; else touch "$root$2"; fi
  mount --rbind "$1" "$root$2"; mount --make-r"$3" "$root$2"; shift 3
done
shift
mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"`;

const OWN = ['unshare', '--mount', '--propagation', 'slave', '--pid', '--fork', '--kill-child'];

/** Containers of the manifest's DaemonSet. `args` may change their command lines. */
export interface Containers {
  /** Runs one to its end. */
  run(name: string, args?: (given: readonly string[]) => readonly string[]): Promise<Outcome>;
  start(name: string, args?: (given: readonly string[]) => readonly string[]): AgentProcess;
}

/** @throws Error where the manifest has no DaemonSet */
export async function containersOf(place: ContainerPlace): Promise<Containers> {
  const { machine, root } = place;
  const manifests = parseAllDocuments(readFileSync(place.manifest, 'utf8')).map((each): Manifest => each.toJS());
  const pod = manifests.find(({ kind }) => kind === 'DaemonSet')?.spec?.template.spec;
  if (pod === undefined) throw new Error(`${place.manifest}: no DaemonSet`);
  const sources = new Map(
    pod.volumes.map(({ name, hostPath, configMap }) => [
      name,
      hostPath?.path ?? configVolume(place.scratch, manifests, configMap?.name),
    ]),
  );
  for (const { hostPath } of pod.volumes) {
    if (hostPath === undefined) continue;
    const make = hostPath.type === 'FileOrCreate' ? 'touch' : 'mkdir';
    await machine.must(make, make === 'mkdir' ? ['-p', hostPath.path] : [hostPath.path]);
  }
  const words = (name: string, change: (given: readonly string[]) => readonly string[]): string[] => {
    const container = [...pod.initContainers, ...pod.containers].find((each) => each.name === name);
    if (container === undefined) throw new Error(`${place.manifest}: no container ${name}`);
    const mounts = container.volumeMounts.flatMap(({ name: volume, mountPath, mountPropagation }) => [
      sources.get(volume) ?? '',
      mountPath,
      mountPropagation === 'HostToContainer' ? 'slave' : 'private',
    ]);
    return [...OWN, 'sh', '-c', ENTER, 'sh', root, ...mounts, '--', '/usr/bin/flanneld', ...change(container.args)];
  };
  return {
    run(name, change = (given) => given) {
      const [program = '', ...rest] = words(name, change);
      return machine.run(program, rest, { timeoutMs: 60_000 });
    },
    start: (name, change = (given) => given) => agentProcess(machine, words(name, change)),
  };
}

function configVolume(scratch: string, manifests: readonly Manifest[], name: string | undefined): string {
  const directory = join(scratch, `config-${name}`);
  mkdirSync(directory, { recursive: true });
  const data = manifests.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name)?.data ?? {};
  for (const [file, text] of Object.entries(data)) writeFileSync(join(directory, file), text);
  return directory;
}
