// Every case of the reference test suites by an id: reference/cni.md, sections 2a to 2g. The table (table.ts) names the
// ids that each row covers; test/cni/table.test.ts sees to it that none is missing.

import { BRIDGE } from './catalogue/bridge.ts';
import { HOST_LOCAL } from './catalogue/host-local.ts';
import { LIBCNI } from './catalogue/libcni.ts';
import { BANDWIDTH, FIREWALL, PORTMAP } from './catalogue/meta.ts';
import { SKEL } from './catalogue/skel.ts';

/** Sections of reference/cni.md, each with its cases: id and sentence. */
export const CATALOGUE = {
  '2a': SKEL,
  '2b': LIBCNI,
  '2c': BRIDGE,
  '2d': HOST_LOCAL,
  '2e': PORTMAP,
  '2f': BANDWIDTH,
  '2g': FIREWALL,
} as const;

export type Section = keyof typeof CATALOGUE;
type Cases = (typeof CATALOGUE)[Section];
export type CaseId = { [S in Section]: keyof (typeof CATALOGUE)[S] }[Section];

export const SECTIONS = Object.keys(CATALOGUE) as Section[];
export const CASE_IDS = SECTIONS.flatMap((section) => Object.keys(CATALOGUE[section] as Cases)) as CaseId[];

/** Cases that can't be asked of an executable, and why. */
export const NOT_APPLICABLE: Partial<Record<CaseId, string>> = {
  'skel/check-plugin-too-old': 'every plugin of both directories lists 0.4.0: the message has no way out',
  'skel/check-plugin-bad-version': "a plugin's own list is compiled in (cni.md 2a: not applicable outside)",
  'skel/gc-plugin-too-old': 'a plugin that knows the verb GC lists 1.1.0; one that does not is an unknown command',
  'skel/gc-plugin-bad-version': "a plugin's own list is compiled in (cni.md 2a: not applicable outside)",
  'skel/no-command-no-about': 'every plugin of both directories has an about text',
  'libcni/group-loading': 'the runtime alone: how it finds and reads files of /etc/cni/net.d',
  'libcni/group-validate-network':
    'the runtime alone: ValidateNetwork executes no more than VERSION (libcni/group-version-info)',
  'libcni/group-validate-list': 'the runtime alone, as ValidateNetwork',
  'firewall/firewalld': 'no plugin of ours speaks D-Bus; firewall is only chained behind ours',
};
