// All rows of the table.

import { ALLOCATOR_ROWS } from './rows/allocator.ts';
import { BANDWIDTH_ROWS } from './rows/bandwidth.ts';
import { BRIDGE_ATTACH_ROWS } from './rows/bridge-attach.ts';
import { BRIDGE_OPTION_ROWS } from './rows/bridge-options.ts';
import { BRIDGE_RULE_ROWS } from './rows/bridge-rules.ts';
import { BRIDGE_VLAN_ROWS } from './rows/bridge-vlan.ts';
import { COLLECT_ROWS } from './rows/collect.ts';
import { DELEGATE_ROWS } from './rows/delegates.ts';
import { FIREWALL_ROWS } from './rows/firewall.ts';
import { HOST_LOCAL_ROWS } from './rows/host-local.ts';
import { IPAM_CONFIG_ROWS } from './rows/ipam-config.ts';
import { LIST_ROWS } from './rows/lists.ts';
import { PORTMAP_ROWS } from './rows/portmap.ts';
import { PORTMAP_CONFIG_ROWS } from './rows/portmap-config.ts';
import { PORTMAP_MANY_ROWS } from './rows/portmap-many.ts';
import { RESULT_ROWS } from './rows/results.ts';
import { SKEL_ROWS } from './rows/skel.ts';
import type { Row } from './table.ts';

export const ROWS: readonly Row[] = [
  ...SKEL_ROWS,
  ...LIST_ROWS,
  ...RESULT_ROWS,
  ...COLLECT_ROWS,
  ...DELEGATE_ROWS,
  ...BRIDGE_ATTACH_ROWS,
  ...BRIDGE_OPTION_ROWS,
  ...BRIDGE_RULE_ROWS,
  ...BRIDGE_VLAN_ROWS,
  ...HOST_LOCAL_ROWS,
  ...ALLOCATOR_ROWS,
  ...IPAM_CONFIG_ROWS,
  ...PORTMAP_ROWS,
  ...PORTMAP_MANY_ROWS,
  ...PORTMAP_CONFIG_ROWS,
  ...BANDWIDTH_ROWS,
  ...FIREWALL_ROWS,
];
