// Groups of links as rtnetlink messages (linux/if_link.h: IFLA_GROUP): many links can die in one message, and share what
// a death costs.

import { formatLink } from 'netlink/dist/rt/gen_structs.js';
import { formatLinkAttrs, parseLinkAttrs } from 'netlink/dist/rt/ifla.js';
import type { Reply, Request } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const HEADER = 16;

function message(type: number, attempt: string, subject: string, index: number, group: number | undefined): Request {
  return {
    type,
    flags: 0,
    attempt,
    subject,
    write(out) {
      out.emit(formatLink({ index }));
      if (group !== undefined) out.emit(formatLinkAttrs({ group }));
    },
  };
}

/** Equivalent to: ip link set NAME group GROUP */
export const moveToGroup = (name: string, index: number, group: number): Request =>
  message(RTM_NEWLINK, `move link ${name} to group ${group}`, name, index, group);

/** Equivalent to: ip link delete group GROUP */
export const deleteGroup = (group: number): Request =>
  message(RTM_DELLINK, `delete links of group ${group}`, String(group), 0, group);

/** Equivalent to: ip link delete NAME, of the link that has the index whatever its name has become */
export const deleteByIndex = (name: string, index: number): Request =>
  message(RTM_DELLINK, `delete link ${name}`, name, index, undefined);

/** The group in a link's message; 0 is every new link's. */
export const groupOf = (reply: Reply): number => parseLinkAttrs(reply.data.subarray(HEADER)).group ?? 0;
