// A socket filter for rtnetlink's notifications: those of a few devices, and settings of all of them. Every attachment
// causes two dozen others, which then need not be received. Classic BPF (linux/filter.h), which reads numbers in network
// order, while netlink writes them in the machine's. Pure.

/** Which of a datagram's bytes say what: linux/netlink.h, linux/rtnetlink.h, linux/netconf.h. */
const TYPE_AT = 4;
const INDEX_AT = 20;
const NETCONF_INDEX_AT = 24;
const RTM_NEWNETCONF = 80;
const RTM_DELNETCONF = 81;

const LOAD_BYTE = 0x30;
const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const JUMP_IF_SET = 0x45;
const RETURN = 0x06;
const ACCEPT = 0xffffffff;
const BYTES = 8;

type Instruction = readonly [code: number, operand: number, ifTrue?: number, ifFalse?: number];

const swapped = (value: number): number =>
  (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;

/** Accepts what has one of the indexes at a place, and drops the rest. */
const byIndex = (place: number, indexes: readonly number[]): Instruction[] => [
  [LOAD_WORD, place],
  ...indexes.flatMap((index): Instruction[] => [
    [JUMP_IF_EQUAL, swapped(index), 0, 1],
    [RETURN, ACCEPT],
  ]),
  [RETURN, 0],
];

/** The program (struct sock_filter[]) for devices with these indexes. An index below zero says "all" or "default". */
export function linkFilter(indexes: readonly number[]): Buffer {
  const settings: Instruction[] = [
    [LOAD_BYTE, NETCONF_INDEX_AT + 3],
    [JUMP_IF_SET, 0x80, 0, 1],
    [RETURN, ACCEPT],
    ...byIndex(NETCONF_INDEX_AT, indexes),
  ];
  const program: Instruction[] = [
    [LOAD_BYTE, TYPE_AT],
    [JUMP_IF_EQUAL, RTM_NEWNETCONF, 1, 0],
    [JUMP_IF_EQUAL, RTM_DELNETCONF, 0, settings.length],
    ...settings,
    ...byIndex(INDEX_AT, indexes),
  ];
  const bytes = Buffer.alloc(program.length * BYTES);
  for (const [at, [code, operand, ifTrue = 0, ifFalse = 0]] of program.entries()) {
    bytes.writeUInt16LE(code, at * BYTES);
    bytes.writeUInt8(ifTrue, at * BYTES + 2);
    bytes.writeUInt8(ifFalse, at * BYTES + 3);
    bytes.writeUInt32LE(operand, at * BYTES + 4);
  }
  return bytes;
}

/** So that every jump fits its byte. */
export const MOST_INDEXES = 100;
