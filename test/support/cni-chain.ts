// Lists of plugins, ours and the reference's.

import type { Test } from 'tap';
import type { CniNode, CniOutput } from './cni.ts';
import type { TestNamespace } from './namespace.ts';

/** Plugins called one after the other, as libcni calls a list; each is ours unless it comes with a directory. */
export function chainOf(
  node: CniNode,
  cniVersion: string,
  pod: TestNamespace,
  plugins: readonly (readonly [plugin: object, bin?: string | undefined])[],
) {
  const base = { cniVersion, name: 'chain', dataDir: `${node.directory}/flannel` };
  const call = (plugin: object, prevResult?: CniOutput) => ({
    config: { ...base, ...plugin, ...(prevResult !== undefined && { prevResult }) },
    netns: pod.path,
  });
  let result: CniOutput | undefined;
  return {
    add(t: Test): CniOutput {
      for (const [plugin, bin] of plugins) {
        const { status, output } = node.cni('ADD', call(plugin, result), bin);
        t.equal(status, 0, JSON.stringify(output));
        result = output;
      }
      return result as CniOutput;
    },
    check: () => plugins.map(([plugin, bin]) => node.cni('CHECK', call(plugin, result), bin).status),
    del: (withResult = true) =>
      plugins.toReversed().map(([plugin, bin]) => {
        const { status } = node.cni('DEL', call(plugin, withResult ? result : undefined), bin);
        return status;
      }),
  };
}

export const goBridge = (node: CniNode) => ({
  type: 'bridge',
  bridge: 'cni0',
  isDefaultGateway: true,
  hairpinMode: true,
  ipam: {
    type: 'host-local',
    dataDir: `${node.directory}/networks`,
    ranges: [[{ subnet: '10.5.1.0/24' }], [{ subnet: 'fd00:5:0:1::/64' }]],
  },
});
