// What cni-plugin/client.c and the agent say to each other on the agent's socket, a stream: the specification of both
// sides.
//
// Everything is a block:  u8 kind | u32 length | bytes,  little endian, `length` counting the bytes. A message is a
// block whose bytes are blocks again, its fields. Fields come in any order; one of an unknown kind is ignored, so that
// either side can be the newer one. A message of an unknown kind, one of over MAX_MESSAGE_BYTES, or a field that goes
// beyond the end of its message ends the connection.
//
//   message     from    fields
//   1 request   client  name; environment*; input; podNetns?; ownNetns?; call?; in the spool also bootId, spooledAt
//   2 result    agent   status; output; errors        the client prints both and exits with the status
//   3 execute   agent   plugin; environment*; input   instead of the result, any number of times
//   4 executed  client  status; output; errors        the answer to 3
//
//   field           bytes
//   1 name          basename of argv[0]: "flannel", "flannel-ipam", ...
//   2 environment   NAME=value: in 1 all CNI_* variables of the client, in 3 those of them to change for the plugin
//                   (CNI_FLANNEL_DEPTH among them, by which one of ours knows that it is part of another's verb)
//   3 input         standard input, at most MAX_INPUT_BYTES
//   4 podNetns      DEVICE:INODE, decimal, of the network namespace that the client sees at CNI_NETNS; absent if none
//   5 ownNetns      the same of the namespace the client runs in
//   6 status        u32: exit status, at most 255; 128 + signal of a plugin that was ended by one
//   7 output        standard output: a result, an error object or nothing
//   8 errors        standard error
//   9 plugin        file name, looked for in the client's CNI_PATH
//   10 bootId       the kernel's boot id (/proc/sys/kernel/random/boot_id)
//   11 spooledAt    SECONDS.NANOSECONDS of the wall clock
//   12 call         hexadecimal digits that no other call has: the same each time a client asks again
//
// One request to a connection. A client that has gone closes it; an agent that closes it without a result is taken for
// one that has died: the client asks again, DEL is spooled. An ADD that comes again with the same `call` finds what the
// first one has done, if it got so far, and does it anew. It waits two minutes for the result, orders included; an
// agent that needs longer has to say so before. A plugin that can't be started answers like one that failed, with an
// error object as output and status 1; one that runs for over a minute or prints over MAX_INPUT_BYTES is killed.
//
// The spool: each file in SPOOL_DIRECTORY (mode 0700) is one request, a DEL, named SECONDS.NANOSECONDS-PID, so that the
// order of names is the order of time. A file is complete and on the disk when it gets that name; before, its name
// begins with a dot, and it is rubbish if its client is gone. A client that found no agent may still add one shortly
// after the socket has opened.

import { NetError } from '../model/errors.ts';

export const MAX_MESSAGE_BYTES = 4 << 20;
export const SPOOL_DIRECTORY = '/var/lib/cni/flannel/.spool';

/** Variables by name. */
export type Variables = Readonly<Record<string, string>>;

/** What identifies a network namespace on a host: device and inode of its file. */
export type NetnsId = `${number}:${number}`;

/** What a program left: text that isn't UTF-8 has U+FFFD in its place. */
export interface Ending {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

export interface RequestMessage {
  readonly kind: 'request';
  readonly name: string;
  readonly environment: Variables;
  readonly input: string;
  readonly podNetns?: NetnsId | undefined;
  readonly ownNetns?: NetnsId | undefined;
  /** Tells a client that asks again from another one. */
  readonly call?: string | undefined;
  /** Only of a request that was spooled; the time in milliseconds. */
  readonly spooled?: { readonly bootId: string; readonly at: number } | undefined;
}

export interface ExecuteMessage {
  readonly kind: 'execute';
  readonly plugin: string;
  readonly environment: Variables;
  readonly input: string;
}

export type ResultMessage = Ending & { readonly kind: 'result' };
export type ExecutedMessage = Ending & { readonly kind: 'executed' };
export type Message = RequestMessage | ResultMessage | ExecuteMessage | ExecutedMessage;

const MESSAGE = { request: 1, result: 2, execute: 3, executed: 4 } as const satisfies Record<Message['kind'], number>;
const FIELD = {
  name: 1,
  environment: 2,
  input: 3,
  podNetns: 4,
  ownNetns: 5,
  status: 6,
  output: 7,
  errors: 8,
  plugin: 9,
  bootId: 10,
  spooledAt: 11,
  call: 12,
} as const;
type Field = keyof typeof FIELD;

const REPEATED: readonly Field[] = ['environment'];
const NAMES = new Map(Object.entries(FIELD).map(([name, kind]) => [kind as number, name as Field]));
const HEAD_BYTES = 5;

const malformed = (why: string): NetError => new NetError('decoding', `malformed message: ${why}`);

// ---- encoding -------------------------------------------------------------------------------------------------------

function block(kind: number, bytes: Uint8Array): Buffer {
  const whole = Buffer.alloc(HEAD_BYTES + bytes.length);
  whole.writeUInt8(kind, 0);
  whole.writeUInt32LE(bytes.length, 1);
  whole.set(bytes, HEAD_BYTES);
  return whole;
}

const text = (field: Field, value: string): Buffer => block(FIELD[field], Buffer.from(value));
const optionalText = (field: Field, value: string | undefined): Buffer[] =>
  value === undefined ? [] : [text(field, value)];
const variables = (environment: Variables): Buffer[] =>
  Object.entries(environment).map(([name, value]) => text('environment', `${name}=${value}`));

function statusField(status: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(status);
  return block(FIELD.status, bytes);
}

function clockText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${seconds}.${String(Math.floor((ms - seconds * 1000) * 1e6)).padStart(9, '0')}`;
}

function fieldsOf(message: Message): Buffer[] {
  switch (message.kind) {
    case 'request':
      return [
        text('name', message.name),
        ...variables(message.environment),
        ...optionalText('podNetns', message.podNetns),
        ...optionalText('ownNetns', message.ownNetns),
        ...optionalText('call', message.call),
        text('input', message.input),
        ...optionalText('bootId', message.spooled?.bootId),
        ...optionalText('spooledAt', message.spooled && clockText(message.spooled.at)),
      ];
    case 'execute':
      return [text('plugin', message.plugin), ...variables(message.environment), text('input', message.input)];
    default:
      return [statusField(message.status), text('output', message.output), text('errors', message.errors)];
  }
}

/** The message as bytes. @throws NetError internal when it has over MAX_MESSAGE_BYTES */
export function encode(message: Message): Buffer {
  const fields = Buffer.concat(fieldsOf(message));
  if (fields.length <= MAX_MESSAGE_BYTES) return block(MESSAGE[message.kind], fields);
  throw new NetError('internal', `a message of ${fields.length} bytes, at most ${MAX_MESSAGE_BYTES} can be sent`);
}

// ---- decoding -------------------------------------------------------------------------------------------------------

/** The bytes that the block at the beginning takes with its head; those of a head while even that isn't there. */
function sizeOfBlock(bytes: Buffer): number {
  if (bytes.length < HEAD_BYTES) return HEAD_BYTES;
  const length = bytes.readUInt32LE(1);
  if (length > MAX_MESSAGE_BYTES) throw malformed(`${length} bytes, at most ${MAX_MESSAGE_BYTES} are allowed`);
  return HEAD_BYTES + length;
}

type Fields = ReadonlyMap<Field, readonly Buffer[]>;

function parseFields(bytes: Buffer): Fields {
  const fields = new Map<Field, Buffer[]>();
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at);
    const size = sizeOfBlock(rest);
    if (size > rest.length) throw malformed('a field goes beyond the end');
    at += size;
    const field = NAMES.get(rest.readUInt8(0));
    if (field === undefined) continue;
    const values = fields.get(field) ?? [];
    if (values.push(rest.subarray(HEAD_BYTES, size)) > 1 && !REPEATED.includes(field)) {
      throw malformed(`two fields ${field}`);
    }
    fields.set(field, values);
  }
  return fields;
}

const optional = (fields: Fields, field: Field): string | undefined => fields.get(field)?.[0]?.toString();

function required(fields: Fields, field: Field): string {
  const value = optional(fields, field);
  if (value === undefined) throw malformed(`no field ${field}`);
  return value;
}

/** Of several with one name the first counts, as for getenv(3). */
function parseVariables(fields: Fields): Variables {
  const found = new Map<string, string>();
  for (const pair of fields.get('environment') ?? []) {
    const [, name = '', value = ''] = /^([^=]+)=(.*)$/s.exec(pair.toString()) ?? [];
    if (name === '') throw malformed('a variable without name or value');
    if (!found.has(name)) found.set(name, value);
  }
  return Object.fromEntries(found);
}

function parseNetns(fields: Fields, field: Field): NetnsId | undefined {
  const value = optional(fields, field);
  if (value !== undefined && !/^\d{1,20}:\d{1,20}$/.test(value)) throw malformed(`${field} is no DEVICE:INODE`);
  return value as NetnsId | undefined;
}

function parseCall(fields: Fields): string | undefined {
  const value = optional(fields, 'call');
  if (value !== undefined && !/^[0-9a-f]{1,64}$/.test(value)) throw malformed('call is no hexadecimal number');
  return value;
}

function parseSpooled(fields: Fields): RequestMessage['spooled'] {
  const bootId = optional(fields, 'bootId');
  const at = optional(fields, 'spooledAt');
  if (bootId === undefined && at === undefined) return undefined;
  if (bootId === undefined || at === undefined) throw malformed('only one of bootId and spooledAt');
  const [, seconds, nanoseconds] = /^(\d{1,12})\.(\d{9})$/.exec(at) ?? [];
  if (seconds === undefined) throw malformed('spooledAt is no SECONDS.NANOSECONDS');
  return { bootId, at: Number(seconds) * 1000 + Number(nanoseconds) / 1e6 };
}

function parseEnding(fields: Fields): Ending {
  const status = fields.get('status')?.[0];
  if (status?.length !== 4 || status.readUInt32LE() > 255) throw malformed('no status, or none of 0 to 255');
  return { status: status.readUInt32LE(), output: required(fields, 'output'), errors: required(fields, 'errors') };
}

function parseMessage(bytes: Buffer): Message {
  const fields = parseFields(bytes.subarray(HEAD_BYTES));
  const input = (): Pick<RequestMessage, 'environment' | 'input'> => ({
    environment: parseVariables(fields),
    input: required(fields, 'input'),
  });
  const kind = bytes.readUInt8(0);
  switch (kind) {
    case MESSAGE.request: {
      const [podNetns, ownNetns] = [parseNetns(fields, 'podNetns'), parseNetns(fields, 'ownNetns')];
      const name = required(fields, 'name');
      const [call, spooled] = [parseCall(fields), parseSpooled(fields)];
      return { kind: 'request', name, ...input(), podNetns, ownNetns, call, spooled };
    }
    case MESSAGE.result:
      return { kind: 'result', ...parseEnding(fields) };
    case MESSAGE.execute:
      return { kind: 'execute', plugin: required(fields, 'plugin'), ...input() };
    case MESSAGE.executed:
      return { kind: 'executed', ...parseEnding(fields) };
    default:
      throw malformed(`of the unknown kind ${kind}`);
  }
}

/** The one message that the bytes are: a file of the spool. @throws NetError decoding */
export function decode(bytes: Uint8Array): Message {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (sizeOfBlock(whole) !== whole.length) throw malformed('not one whole message');
  return parseMessage(whole);
}

/**
 * A function that takes the chunks of a stream as they come and gives the messages that are then complete. It holds at
 * most one message and one chunk. @throws NetError decoding, after which the stream is of no use
 */
export function messageReader(): (chunk: Uint8Array) => Message[] {
  let space = Buffer.alloc(4096);
  let held = 0;
  return (chunk) => {
    const needed = held + chunk.length;
    // Twice as much each time: a message in tiny chunks is not copied for each of them.
    if (needed > space.length) space = Buffer.concat([space.subarray(0, held)], Math.max(needed, 2 * space.length));
    space.set(chunk, held);
    const messages: Message[] = [];
    let at = 0;
    for (;;) {
      const end = at + sizeOfBlock(space.subarray(at, needed));
      if (end > needed) break;
      messages.push(parseMessage(space.subarray(at, end)));
      at = end;
    }
    space.copyWithin(0, at, needed);
    held = needed - at;
    return messages;
  };
}
