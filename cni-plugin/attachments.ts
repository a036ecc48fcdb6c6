// The record of an attachment: what was intended, written whole before anything is done, and removed after everything is
// undone. Whoever finds one knows what there may be to undo, whenever the process that wrote it was killed.

import { hash } from 'node:crypto';
import {
  ensureDirectory,
  isDirectory,
  listDirectory,
  readRegular,
  removeIfThere,
  statIfThere,
  writeWhole,
} from '../kernel/files.ts';
import { lockBriefly } from '../kernel/lock.ts';
import {
  anything,
  boolean,
  cidr,
  ethernet,
  integer,
  ipAddress,
  list,
  object,
  oneOf,
  optional,
  parse,
  string,
} from '../model/check.ts';
import type { CniRoute } from '../model/cni.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import type { Ip, Mac, Prefix } from '../model/ip.ts';
import type { ForeignPlugin } from './foreign.ts';
import { PORT_PLAN, type PortPlan } from './portmap.ts';
import { parseResult } from './result.ts';
import type { AttachmentKey, PodName } from './names.ts';

/** The names under which the executable is called. */
const PLUGINS = ['flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth'] as const;
export type PluginName = (typeof PLUGINS)[number];

export interface Attachment extends AttachmentKey {
  readonly plugin: PluginName;
  /** /proc/sys/kernel/random/boot_id when it was made: with another, nothing of it is left but files. */
  readonly bootId: string;
  /** The network namespace of the host it hangs on, as device:inode: in another one its device can't be seen. */
  readonly host?: string | undefined;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** Until ADD has succeeded. With nobody holding the lock, ADD died. */
  readonly unfinished?: boolean | undefined;
  /** Of the client that asked for it: one that asks again has had no answer. */
  readonly call?: string | undefined;
  /** Path of the pod's network namespace, and its device and inode where it was opened. */
  readonly netns: { readonly path: string; readonly id?: string | undefined };
  readonly bridge?: string | undefined;
  /** Without a bridge: the pod's MAC, to which the host's neighbour entries lead, and the subnets of its addresses. */
  readonly routed?: { readonly mac: Mac; readonly subnets: readonly Prefix[] } | undefined;
  /** The pod's MAC; known and written with the addresses. */
  readonly mac?: Mac | undefined;
  /** The only MAC that the bridge lets in by the link. */
  readonly guardedMac?: Mac | undefined;
  /** The host's end of the veth pair. */
  readonly link?: { readonly name: string; readonly mac: Mac } | undefined;
  /** Directory of the address store; absent: the attachment has no address. */
  readonly addressDir?: string | undefined;
  /** Reserved addresses: known, and written, after the intent. */
  readonly addresses: readonly Ip[];
  /** The pod's routes with what older versions' results leave out; known and written with the addresses. */
  readonly routes: readonly CniRoute[];
  /** The Kubernetes pod, where the runtime has named one. */
  readonly pod?: PodName | undefined;
  /** Ports of the host that lead to the pod. */
  readonly portMappings?: PortPlan | undefined;
  /** The device for what the pod sends, when that is limited. */
  readonly ifb?: { readonly name: string; readonly mac: Mac } | undefined;
  /** The plugin of somebody else that has a part in it, what ADD told it, and CNI_ARGS then. */
  readonly foreign?: (ForeignPlugin & { readonly args: string }) | undefined;
}

const RECORD = object({
  plugin: oneOf(...PLUGINS),
  bootId: string,
  host: optional(string),
  created: integer(0, Number.MAX_SAFE_INTEGER),
  unfinished: optional(boolean),
  call: optional(string),
  network: string,
  containerId: string,
  ifname: string,
  netns: object({ path: string, id: optional(string) }),
  bridge: optional(string),
  routed: optional(object({ mac: ethernet, subnets: list(cidr) })),
  mac: optional(ethernet),
  guardedMac: optional(ethernet),
  link: optional(object({ name: string, mac: ethernet })),
  addressDir: optional(string),
  addresses: list(ipAddress),
  routes: list(anything),
  pod: optional(object({ namespace: string, name: string, uid: optional(string) })),
  portMappings: optional(PORT_PLAN),
  ifb: optional(object({ name: string, mac: ethernet })),
  foreign: optional(object({ role: oneOf('ipam', 'interface'), plugin: string, input: string, args: string })),
});

/** A file name's limit in bytes (NAME_MAX). */
const NAME_MAX = 255;
/** A record is small, but for what another plugin was told: MAX_INPUT_BYTES, each character escaped as "\\u0001". */
const MAX_BYTES = 8 << 20;

const LOCK_SUFFIX = '.lock';
const RECORD_SUFFIX = '.json';
/** Neither container ids nor interface names have it. */
const SEPARATOR = ':';

function pathOf(records: string, { network, containerId, ifname }: AttachmentKey, suffix: string): string {
  const name = `${containerId}${SEPARATOR}${ifname}${suffix}`;
  const long = [network, name].find((part) => Buffer.byteLength(part) > NAME_MAX);
  if (long === undefined) return `${records}/${network}/${name}`;
  const what = long === network ? 'network name' : 'container id and interface name';
  throw new NetError(
    'invalid-environment',
    `${what} too long: "${long.slice(0, 32)}…" makes a file name of more than ${NAME_MAX} bytes`,
  );
}

/**
 * Files and directories of attachment records. One attachment's functions are called with its lock held, all but
 * `lock`, `tryLock`, `list`, `networks` and a `read` that is repeated under the lock.
 */
export interface Attachments {
  /** @throws NetError busy when another process or verb holds the lock for longer; invalid-environment for long names */
  lock(key: AttachmentKey): Promise<() => void>;
  /** Undefined while another holds it. @throws NetError io */
  tryLock(key: AttachmentKey): Promise<(() => void) | undefined>;
  /** Undefined also for a damaged record: whoever needs what it said looks elsewhere. @throws NetError io */
  read(key: AttachmentKey): Attachment | undefined;
  /** @throws NetError io */
  write(record: Attachment): void;
  /** @throws NetError io */
  remove(key: AttachmentKey): void;
  /** Records of a network. @throws NetError io */
  list(network: string): AttachmentKey[];
  /** Networks with a directory for records. @throws NetError io */
  networks(): string[];
}

/** The records under a directory, for one verb: directories are looked at once. Symbolic links in place of its directories and files are refused or not followed. */
export function attachmentsIn(records: string, lockTimeoutMs: number): Attachments {
  const prepared = new Set<string>();
  const prepare = (name: string) => {
    const directory = `${records}/${name}`;
    if (prepared.has(directory)) return;
    ensureDirectory(records, 0o700);
    ensureDirectory(directory, 0o700);
    prepared.add(directory);
  };
  const take = (key: AttachmentKey, timeoutMs: number) => {
    const path = pathOf(records, key, LOCK_SUFFIX);
    prepare(key.network);
    return lockBriefly(path, timeoutMs);
  };
  // Of the attachment, since its lock is held, and outside the network's directory, which others list.
  const temporaryOf = ({ network, containerId, ifname }: AttachmentKey) =>
    `${records}/.tmp/${hash('sha256', `${network}/${containerId}/${ifname}`).slice(0, 32)}`;
  return {
    tryLock: (key) => take(key, 0),
    async lock(key) {
      const unlock = await take(key, lockTimeoutMs);
      if (unlock !== undefined) return unlock;
      const { containerId, ifname } = key;
      const message = `another operation on ${ifname} of ${containerId} takes longer than ${lockTimeoutMs} ms`;
      throw new NetError('busy', message, { subject: containerId });
    },
    read(key) {
      const text = readRegular(pathOf(records, key, RECORD_SUFFIX), { maxBytes: MAX_BYTES });
      return text === undefined ? undefined : decode(text, key);
    },
    write(record) {
      prepare(record.network);
      prepare('.tmp');
      const temporary = temporaryOf(record);
      const path = pathOf(records, record, RECORD_SUFFIX);
      const text = JSON.stringify(record);
      try {
        writeWhole(path, text, { mode: 0o600, temporary });
      } catch (error) {
        // What a killed process of this attachment left.
        if (!hasErrno(error, 'EEXIST') || !removeIfThere(temporary)) throw error;
        writeWhole(path, text, { mode: 0o600, temporary });
      }
    },
    remove(key) {
      removeIfThere(temporaryOf(key));
      removeIfThere(pathOf(records, key, RECORD_SUFFIX));
    },
    list: (network) =>
      isDirectory(`${records}/${network}`)
        ? listDirectory(`${records}/${network}`).flatMap((name) => keyOf(network, name))
        : [],
    // flannel's own plugin keeps files of containers here; a name with a leading dot is no network's.
    networks: () =>
      (isDirectory(records) ? listDirectory(records) : []).filter(
        (name) => !name.startsWith('.') && statIfThere(`${records}/${name}`)?.isDirectory(),
      ),
  };
}

function keyOf(network: string, name: string): AttachmentKey[] {
  const [containerId, ifname, ...more] = name.slice(0, -RECORD_SUFFIX.length).split(SEPARATOR);
  const whole = name.endsWith(RECORD_SUFFIX) && containerId && ifname && more.length === 0;
  return whole ? [{ network, containerId, ifname }] : [];
}

/** A record that speaks of another attachment is damaged too. */
function decode(text: string, { network, containerId, ifname }: AttachmentKey): Attachment | undefined {
  try {
    const record = parse(JSON.parse(text), RECORD, 'record', 'decoding');
    const own = record.network === network && record.containerId === containerId && record.ifname === ifname;
    return own ? { ...record, routes: parseResult({ routes: record.routes }).routes } : undefined;
  } catch {
    return undefined;
  }
}
