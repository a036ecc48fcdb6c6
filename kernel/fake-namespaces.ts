// The fake kernel's namespaces: reachable by a path, alive while a path or an opening holds them.

import { NetError } from '../model/errors.ts';
import type { Mac } from '../model/ip.ts';
import type { Namespace } from '../model/state.ts';
import { plug, vanish } from './fake-links.ts';
import { type Net, refuse } from './fake-net.ts';
import type { OpenNamespace } from './kernel.ts';

/** The path of the namespace the process lives in. */
const HOST_PATH = '/proc/self/ns/net';
/** What the kernel numbers its first namespace. */
const FIRST_INODE = 0xf0000000;

export interface Namespaces {
  readonly host: Namespace;
  add(path: string): void;
  remove(path: string): void;
  open(path: string): OpenNamespace;
  /** @throws NetError kernel EBADF for one that is closed */
  netOf(namespace: Namespace): Net;
  /** All that are alive. */
  nets(): Iterable<Net>;
}

interface Held {
  readonly id: string;
  readonly net: Net;
}

/** A new machine: the host's namespace and nothing else. */
export function namespaces(): Namespaces {
  const paths = new Map<string, Held>();
  const openings = new Map<Namespace, Held>();
  const alive = new Set<Net>();
  let inode = FIRST_INODE;

  const add = (path: string): Held => {
    const held = { id: `4:${inode++}`, net: bornNet() };
    if (paths.has(path))
      throw new NetError('io', `add network namespace ${path}: EEXIST`, { errno: 'EEXIST', subject: path });
    paths.set(path, held);
    alive.add(held.net);
    return held;
  };
  /** A namespace that nothing holds dies, and so do the veths that reach into it from elsewhere. */
  const settle = (held: Held) => {
    if ([...paths.values(), ...openings.values()].includes(held)) return;
    alive.delete(held.net);
    for (const device of [...held.net.devices]) if (held.net.devices.includes(device)) vanish(device);
  };
  const open = (path: string): OpenNamespace => {
    const held = paths.get(path);
    if (held === undefined)
      throw new NetError('invalid-netns', `open network namespace ${path}: ENOENT`, { errno: 'ENOENT', subject: path });
    const opening: OpenNamespace = {
      path,
      id: held.id,
      close() {
        if (openings.delete(opening)) settle(held);
      },
    };
    openings.set(opening, held);
    return opening;
  };

  add(HOST_PATH);
  return {
    host: open(HOST_PATH),
    add,
    open,
    remove(path) {
      const held = paths.get(path);
      if (held === undefined)
        throw new NetError('io', `remove network namespace ${path}: ENOENT`, { errno: 'ENOENT', subject: path });
      paths.delete(path);
      settle(held);
    },
    netOf: (namespace) => openings.get(namespace)?.net ?? refuse('EBADF', namespace.path),
    nets: () => alive,
  };
}

function bornNet(): Net {
  const net: Net = {
    lastIndex: 0,
    hadIpv4: false,
    devices: [],
    addresses: [],
    routes: [],
    neighbours: [],
    fdb: [],
    qdiscs: [],
    redirects: [],
    sysctls: new Map(),
  };
  plug(net, { name: 'lo', kind: 'device', mac: '00:00:00:00:00:00' as Mac, mtu: 65536 });
  return net;
}
