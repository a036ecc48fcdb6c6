// What the reference plugins bridge (ipMasq) and portmap leave in iptables for an attachment: one chain each in the table nat,
// and the rules that lead there. For pods that flannel attached before a node changed over: their runtime no longer executes
// those plugins. What all attachments share (CNI-HOSTPORT-DNAT …) stays.

import { createHash } from 'node:crypto';
import type { Kernel } from '../kernel/kernel.ts';
import { hasErrno } from '../model/errors.ts';
import type { ChainHead, HandledRule, NftCommand } from '../model/ruleset.ts';
import type { AttachmentKey } from './names.ts';

const TABLE = 'nat';
const FAMILIES = ['ip', 'ip6'] as const;
/** Of a chain's name. */
const LENGTH = 28;

/** containernetworking/plugins, pkg/utils/utils.go (FormatChainName) and plugins/meta/portmap/chain.go. */
function referenceChains({ network, containerId }: Pick<AttachmentKey, 'network' | 'containerId'>): string[] {
  const hash = createHash('sha512').update(`${network}${containerId}`).digest('hex');
  return ['CNI-', 'CNI-DN-'].map((prefix) => `${prefix}${hash}`.slice(0, LENGTH));
}

/**
 * Takes them away, where iptables is nft's. Rules of iptables-legacy can't be seen from here and stay.
 * @throws NetError kernel
 */
export function removeReferenceChains(
  kernel: Pick<Kernel, 'listChains' | 'readChain' | 'commit'>,
  key: Pick<AttachmentKey, 'network' | 'containerId'>,
): void {
  try {
    removeFrom(kernel, referenceChains(key));
  } catch (error) {
    // Somebody else's iptables was faster.
    if (!hasErrno(error, 'ENOENT')) throw error;
    removeFrom(kernel, referenceChains(key));
  }
}

function removeFrom(kernel: Pick<Kernel, 'listChains' | 'readChain' | 'commit'>, names: readonly string[]): void {
  const heads = kernel.listChains().filter(({ table }) => table === TABLE);
  for (const family of FAMILIES) {
    const all = heads.filter((head) => head.family === family);
    const gone = all.filter(({ name }) => names.includes(name));
    if (gone.length === 0) continue;
    const leading = all.flatMap((head) => rulesTo(head, gone, kernel.readChain(head) ?? []));
    const chains = gone.flatMap(({ name }): NftCommand[] => [
      { verb: 'flush', type: 'chain', chain: { name } },
      { verb: 'delete', type: 'chain', chain: { name } },
    ]);
    kernel.commit({ family, table: TABLE, commands: [...leading, ...chains] });
  }
}

function rulesTo({ name: chain }: ChainHead, gone: readonly ChainHead[], rules: readonly HandledRule[]): NftCommand[] {
  return rules
    .filter(({ text }) => gone.some(({ name }) => text.endsWith(` jump ${name}`)))
    .map(({ handle }) => ({ verb: 'delete', type: 'rule', chain, handle }));
}
