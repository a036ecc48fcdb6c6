// A client's request, understood: which verb of which plugin, on what, and whose turn it is.

import { placesOf } from '../../cni-plugin/config.ts';
import type { Request } from '../../cni-plugin/protocol.ts';
import { parseEnvironment, parseRequest } from '../../cni-plugin/protocol.ts';
import type { PluginName } from '../../cni-plugin/attachments.ts';
import type { Dependencies } from '../../cni-plugin/verbs.ts';
import { isPlugin } from '../../cni-plugin/verbs.ts';
import type { RequestMessage } from '../../cni-plugin/wire.ts';
import { NetError } from '../../model/errors.ts';
import type { ClientView } from './client-view.ts';
import { requireSameDirectories, requireSameHost, seenBy } from './client-view.ts';
import type { Turn } from './queue.ts';

export interface Call {
  readonly plugin: PluginName;
  readonly request: Request;
  readonly message: RequestMessage;
  readonly client: ClientView;
}

/**
 * Deletions wait for the kernel most of the time. Plugins that a verb has executed may in turn want addresses, so these
 * must not wait for other verbs to end; nor must any verb that is known to be part of another one.
 */
export type LaneName = 'address' | 'delete' | 'other' | 'nested';

/** @throws NetError of what is wrong with the request, in the stand-alone program's words */
export function callOf(message: RequestMessage, pid: number): Call {
  const { name, environment, input, podNetns, ownNetns } = message;
  if (!isPlugin(name)) {
    throw new NetError('invalid-environment', `no plugin is called ${JSON.stringify(name.slice(0, 64))}`);
  }
  const request = parseRequest(parseEnvironment(environment), input);
  return { plugin: name, request, message, client: { pid, podNetns, ownNetns } };
}

/**
 * Verbs of one attachment take turns, unless one is part of the other; others are each on their own, but for GC, which is
 * about a whole network.
 */
export function turnOf({ plugin, request }: Call, serial: number): Omit<Turn<LaneName>, 'unless'> {
  const { command, network, containerId, ifname, depth } = request;
  const lane = laneOf(plugin, request);
  if (command === 'GC') return { lane, key: `${depth} ${plugin} ${network}` };
  if (containerId === '') return { lane, key: `#${serial}` };
  return { lane, key: `${depth} ${plugin} ${network}/${containerId}:${ifname}` };
}

function laneOf(plugin: PluginName, { command, depth }: Request): LaneName {
  if (depth > 0) return 'nested';
  if (plugin === 'flannel-ipam') return 'address';
  return command === 'DEL' || command === 'GC' ? 'delete' : 'other';
}

/**
 * What the verbs of this call act on: the host by the client's view of it.
 * @throws NetError invalid-netns, invalid-config where the views don't agree
 */
export function dependenciesOf(
  { client, request, message }: Call,
  shared: Omit<Dependencies, 'execute' | 'call'>,
  execute: Dependencies['execute'],
): Dependencies {
  requireSameHost(shared.kernel, client);
  if (request.command === 'ADD') {
    const { records, addresses } = placesOf(request);
    requireSameDirectories(client, addresses === undefined ? [records] : [records, addresses]);
  }
  return { ...shared, kernel: seenBy(shared.kernel, client), execute, call: message.call };
}
