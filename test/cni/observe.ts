// What is in a network namespace, by the eyes of iproute2 rather than by our own: links with their addresses, routes.

import type { Machine } from '../../examples/cluster/machine.ts';

export interface SeenLink {
  readonly ifname: string;
  readonly ifindex: number;
  /** Of a veth: the index of its other end. */
  readonly link_index?: number;
  readonly mtu: number;
  readonly address: string;
  readonly operstate: string;
  readonly flags: readonly string[];
  readonly master?: string;
  /** How often promiscuity was asked for. */
  readonly promiscuity: number;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly vlan_filtering?: number };
    readonly info_slave_data?: { readonly hairpin?: boolean; readonly isolated?: boolean };
  };
  readonly addr_info: readonly SeenAddress[];
}

interface SeenAddress {
  readonly family: 'inet' | 'inet6';
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly tentative?: boolean;
  readonly nodad?: boolean;
}

export interface SeenRoute {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev: string;
  readonly metric?: number;
  readonly table?: string;
  readonly scope?: string;
  readonly metrics?: readonly { readonly mtu?: number; readonly advmss?: number }[];
}

export interface NetState {
  readonly links: readonly SeenLink[];
  readonly routes: readonly SeenRoute[];
  /** A link by its name. @throws Error when there is none */
  link(name: string): SeenLink;
}

const SEPARATOR = '---';

/** The host, or the pod of that name. */
export async function observe(machine: Machine, pod?: string): Promise<NetState> {
  const ip = `ip${pod === undefined ? '' : ` -n ${pod}`} -j`;
  const queries = [`${ip} -d addr show`, `${ip} -4 route show`, `${ip} -6 route show`];
  const printed = await machine.must('sh', ['-ec', queries.join(`; echo; echo ${SEPARATOR}; `)]);
  const [links = '', ...routes] = printed.split(SEPARATOR);
  const seen = decode<SeenLink>(links);
  return {
    links: seen,
    routes: routes.flatMap((text) => decode<SeenRoute>(text)),
    link(name) {
      const found = seen.find(({ ifname }) => ifname === name);
      if (found !== undefined) return found;
      throw new Error(`no link ${name} in ${pod ?? 'the host'}: ${seen.map(({ ifname }) => ifname).join(', ')}`);
    },
  };
}

/** iproute2 prints nothing at all for an empty list, and an empty object for an address it filtered out. */
const decode = <T extends object>(text: string): T[] =>
  text.trim() === '' ? [] : (JSON.parse(text) as T[]).filter((each) => Object.keys(each).length > 0);

/** Addresses with their lengths, link-local ones left out. */
export const addressesOf = ({ addr_info }: SeenLink): string[] =>
  addr_info.filter(({ scope }) => scope !== 'link').map(({ local, prefixlen }) => `${local}/${prefixlen}`);

export const kindOf = ({ linkinfo }: SeenLink): string | undefined => linkinfo?.info_kind;
export const isUp = ({ flags }: SeenLink): boolean => flags.includes('UP');
