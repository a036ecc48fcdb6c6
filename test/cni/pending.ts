// What ours does not do yet, by the row's id. A row that passes must be taken out of here; an empty list is the aim.

import type { PendingRows } from './run.ts';

const FOREIGN = { reason: 'address management by a foreign plugin is being written' };
const SPOOF = { reason: 'macspoofchk is being written' };

export const PENDING: PendingRows = {
  'foreign address management: ADD, CHECK and DEL with the configuration as it came': FOREIGN,
  'foreign address management: DEL without a namespace reaches it': FOREIGN,
  'foreign address management: a late failure of ADD is followed by its DEL': FOREIGN,
  'foreign address management: its error is the answer': FOREIGN,
  'foreign address management: STATUS reaches it, and its code the runtime': FOREIGN,
  'foreign address management: GC reaches it': FOREIGN,
  'foreign address management that is not there': FOREIGN,
  'STATUS with address management that is not there: the code reaches the runtime': FOREIGN,
  'the foreign plugin static: ADD, CHECK, DEL': FOREIGN,
  'macspoofchk: rules of the bridge family come with ADD and go with DEL': SPOOF,
  'macspoofchk: frames with another MAC are dropped': SPOOF,
  'VLAN: trunks that are refused': { reason: 'vlanTrunk is refused as a whole before it is looked at' },
  'standard input that cannot be read, or is no JSON': {
    reason: 'defect of ours: main.ts takes a directory on standard input for an empty file (code 6 instead of 5)',
    alone: true,
  },
};
