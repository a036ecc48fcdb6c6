// What has to lie on a node before its container runtime can call us: one static executable under all its names, and the
// mark that an agent is expected. In a cluster the agent's own image brings them, before every start of the agent.

import { join } from 'node:path';
import { ensureDirectory, linkOver, readBytes, readRegular, removeIfThere, writeWhole } from '../../kernel/files.ts';
import { NetError } from '../../model/errors.ts';
import { LIST_NAME } from './list.ts';

/** The names under which runtimes execute the one client. */
const NAMES = ['flannel', 'flannel-ipam', 'flannel-portmap', 'flannel-bandwidth'] as const;
/** cni-plugin/client.c looks for it in /etc/cni/net.d: an agent is expected, and may be away for so many seconds. */
const MARK_NAME = '.flannel-agent';
const MOST_BYTES = 1 << 26;

export interface CniInstallation {
  /** Path of the client that is installed. */
  readonly client: string;
  /** Directories on the node. */
  readonly executables: string;
  readonly configuration: string;
}

export interface CniInstallOptions extends CniInstallation {
  /** Seconds that clients wait for an agent. */
  readonly graceSeconds: number;
}

/**
 * Puts mark and executables in place, each in one step, since the runtime may be executing what is replaced. The mark comes
 * first: a client without one would do its work without the agent, which a node that has only the client can't.
 * @throws NetError io, file-unreadable
 */
export function installCni({ client, executables, configuration, graceSeconds }: CniInstallOptions): readonly string[] {
  const bytes = clientBytes(client);
  for (const directory of [configuration, executables]) ensureDirectory(directory);
  const mark = join(configuration, MARK_NAME);
  writeWhole(mark, `${graceSeconds}\n`, { mode: 0o644 });
  const [first, ...others] = NAMES.map((name) => join(executables, name)) as [string, ...string[]];
  writeWhole(first, bytes, { mode: 0o755 });
  for (const other of others) linkOver(first, other);
  return [mark, first, ...others];
}

/**
 * Takes away what is as it was put: executables that another network has replaced, and a list other than `list`, stay.
 * The list goes first, so that no pod is sent here any more.
 * @returns what is gone @throws NetError io, file-unreadable
 */
export function uninstallCni(
  { client, executables, configuration }: CniInstallation,
  list: string | undefined,
): readonly string[] {
  const bytes = clientBytes(client);
  const listPath = join(configuration, LIST_NAME);
  const ours = [
    ...(list !== undefined && readRegular(listPath, { maxBytes: MOST_BYTES }) === list ? [listPath] : []),
    ...NAMES.map((name) => join(executables, name)).filter((path) =>
      readBytes(path, { maxBytes: MOST_BYTES })?.equals(bytes),
    ),
    join(configuration, MARK_NAME),
  ];
  return ours.filter(removeIfThere);
}

function clientBytes(client: string): Buffer {
  const bytes = readBytes(client, { maxBytes: MOST_BYTES });
  if (bytes !== undefined) return bytes;
  throw new NetError('file-unreadable', `read the CNI client ${client}: no such file`, {
    errno: 'ENOENT',
    subject: client,
  });
}
