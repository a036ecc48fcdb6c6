// Addresses that another plugin manages: its result as ours would be.

import type { IpamResult } from '../ipam/verbs.ts';
import { NetError } from '../model/errors.ts';
import { askAdd, nameOfResult } from './delegation.ts';
import type { ForeignPlugin } from './foreign.ts';
import { parseResult } from './result.ts';
import type { Undo } from './undo.ts';
import type { Dependencies } from './verbs.ts';

/**
 * Has the plugin reserve addresses; its DEL is among what is to be undone.
 * @throws NetError plugin-failed: with its own code and message, or naming what is wrong with its result
 */
export async function reserveForeign(
  plugin: ForeignPlugin,
  dependencies: Dependencies,
  undo: Undo,
): Promise<IpamResult> {
  const printed = await askAdd(dependencies, plugin, undo);
  const { ips, routes, dns } = parseResult(printed, nameOfResult(plugin), 'plugin-failed');
  if (ips.length > 0) return { ips: ips.map(({ address, gateway }) => ({ address, gateway })), routes, dns };
  throw new NetError('plugin-failed', `${nameOfResult(plugin)}: no address`, { subject: plugin.plugin });
}
