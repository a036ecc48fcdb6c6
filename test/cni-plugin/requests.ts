// Requests for the unit tests of the plugin, as a runtime would send them.

import { type Command, parseEnvironment, parseRequest, type Request } from '../../cni-plugin/protocol.ts';

export interface RequestOptions {
  readonly command?: Command;
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: string;
  /** How many plugins of ours execute this one. */
  readonly depth?: number;
}

/** A request with this configuration; `name`, `type` and `cniVersion` are there unless it says otherwise. */
export function requestWith(config: object, options: RequestOptions = {}): Request {
  const env = {
    CNI_COMMAND: options.command ?? 'ADD',
    CNI_CONTAINERID: options.containerId ?? 'pod1',
    CNI_NETNS: options.netns ?? '/run/netns/pod1',
    CNI_IFNAME: options.ifname ?? 'eth0',
    CNI_ARGS: options.args ?? '',
    CNI_PATH: '/opt/cni/bin',
    CNI_FLANNEL_DEPTH: String(options.depth ?? ''),
  };
  return parseRequest(
    parseEnvironment(env),
    JSON.stringify({ cniVersion: '1.1.0', name: 'cbr0', type: 'flannel', ...config }),
  );
}
