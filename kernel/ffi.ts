// Every foreign function the project calls, declared once: the C library and libnftables, through koffi. All calls are
// synchronous on the main thread. Nothing here decides anything; a failed call becomes a NetError with its errno.

import { constants } from 'node:os';
import koffi from 'koffi';
import { NetError } from '../model/errors.ts';

const libc = koffi.load('libc.so.6');

/** struct ifreq with a pointer in its union (linux/if.h). */
koffi.struct('EthtoolRequest', {
  name: koffi.array('uint8_t', 16),
  data: 'uint8_t *',
  rest: koffi.array('uint8_t', 16),
});

/** struct sock_fprog (linux/filter.h). */
koffi.struct('SocketFilter', { length: 'uint16_t', program: 'const uint8_t *' });

const raw = {
  close: libc.func('int close(int)'),
  socket: libc.func('int socket(int, int, int)'),
  bind: libc.func('int bind(int, const uint8_t *, uint32_t)'),
  setsockopt: libc.func('int setsockopt(int, int, int, const uint8_t *, uint32_t)'),
  attachFilter: libc.func('int setsockopt(int, int, int, const SocketFilter *, uint32_t)'),
  getsockopt: libc.func('int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint8_t *)'),
  send: libc.func('long send(int, const uint8_t *, size_t, int)'),
  sendto: libc.func('long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)'),
  recv: libc.func('long recv(int, _Out_ uint8_t *, size_t, int)'),
  setns: libc.func('int setns(int, int)'),
  flock: libc.func('int flock(int, int)'),
  ioctl: libc.func('int ioctl(int, unsigned long, void *)'),
  ethtool: libc.func('int ioctl(int, unsigned long, EthtoolRequest *)'),
  strerror: libc.func('const char *strerror(int)'),
  madvise: libc.func('int madvise(uint64_t, uint64_t, int)'),
  malloc_trim: libc.func('int malloc_trim(size_t)'),
  pthread_sigmask: libc.func('int pthread_sigmask(int, const uint8_t *, _Out_ uint8_t *)'),
};

/** The first name of a number counts: 11 is EAGAIN before it is EWOULDBLOCK. */
const ERRNO_NAMES = new Map<number, string>();
for (const [name, value] of Object.entries(constants.errno)) if (!ERRNO_NAMES.has(value)) ERRNO_NAMES.set(value, name);
/** What the kernel answers that Node has no name for (asm-generic/errno.h). */
ERRNO_NAMES.set(76, 'ENOTUNIQ');

/** "EEXIST" for 17; "errno 999" for one without a name. */
export const errnoName = (errno: number): string => ERRNO_NAMES.get(errno) ?? `errno ${errno}`;

/**
 * The errno whose strerror(3) stands at the end of a message. libnftables hands out errnos in this form only; it is the
 * same table read backwards, and this process never sets a locale.
 */
export function errnoOfText(message: string): string | undefined {
  for (const [value, name] of ERRNO_NAMES) if (message.endsWith(`: ${raw.strerror(value)}`)) return name;
  return undefined;
}

function checked(result: number, call: string): number {
  if (result >= 0) return result;
  const errno = errnoName(koffi.errno());
  throw new NetError('kernel', `${call}: ${errno}`, { errno });
}

/** socket(2): a new descriptor in the namespace the thread is in. @throws NetError kernel */
export const socket = (family: number, type: number, protocol: number): number =>
  checked(raw.socket(family, type, protocol), 'socket');

export const close = (fd: number): void => void raw.close(fd);

export const bind = (fd: number, address: Uint8Array): void =>
  void checked(raw.bind(fd, address, address.length), 'bind');

export const setsockopt = (fd: number, level: number, option: number, value: Uint8Array): void =>
  void checked(raw.setsockopt(fd, level, option, value, value.length), 'setsockopt');

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_ATTACH_FILTER = 26;
const FILTER_BYTES = koffi.sizeof('SocketFilter');
const INSTRUCTION_BYTES = 8;

/** setsockopt(2) of SO_ATTACH_FILTER: from now on the socket is given only what the program accepts. @throws NetError kernel */
export const attachFilter = (fd: number, program: Uint8Array): void =>
  void checked(
    raw.attachFilter(
      fd,
      SOL_SOCKET,
      SO_ATTACH_FILTER,
      { length: program.length / INSTRUCTION_BYTES, program },
      FILTER_BYTES,
    ),
    'setsockopt',
  );

/** getsockopt(2) of SO_PEERCRED: who connected a unix socket, as this process sees it. @throws NetError kernel */
export function peerCredentials(fd: number): { readonly pid: number; readonly uid: number } {
  const credentials = Buffer.alloc(12);
  const length = Buffer.of(credentials.length, 0, 0, 0);
  checked(raw.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length), 'getsockopt');
  return { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4) };
}

/** send(2). Returns the bytes sent. @throws NetError kernel */
export const send = (fd: number, data: Uint8Array): number => checked(raw.send(fd, data, data.length, 0), 'send');

/** sendto(2). Returns the bytes sent. @throws NetError kernel */
export const sendTo = (fd: number, data: Uint8Array, address: Uint8Array): number =>
  checked(raw.sendto(fd, data, data.length, 0, address, address.length), 'sendto');

/**
 * send(2) on one of libuv's threads, for what the kernel takes long to do inside a send: this thread goes on meanwhile.
 * @throws NetError kernel
 */
export const sendAside = (fd: number, data: Uint8Array): Promise<number> =>
  new Promise((resolve, reject) => {
    raw.send.async(fd, data, data.length, 0, settling('send', resolve, reject));
  });

/** {@link recv} on one of libuv's threads, which the kernel makes work for what is received. @throws as recv */
export const recvAside = (fd: number, into: Uint8Array): Promise<number> =>
  new Promise((resolve, reject) => {
    raw.recv.async(fd, into, into.length, 0x20, settling('recv', resolve, reject));
  });

const settling =
  (call: string, resolve: (result: number) => void, reject: (error: unknown) => void) =>
  (failure: unknown, result: number): void => {
    try {
      if (failure) throw failure;
      resolve(checked(result, call));
    } catch (error) {
      reject(error);
    }
  };

/** recv(2) with MSG_TRUNC: the datagram's whole length, even when the buffer was shorter. @throws NetError kernel (EAGAIN after SO_RCVTIMEO) */
export const recv = (fd: number, into: Uint8Array): number => checked(raw.recv(fd, into, into.length, 0x20), 'recv');

/** The same without waiting: undefined when no datagram is there. @throws NetError kernel */
export function recvNow(fd: number, into: Uint8Array): number | undefined {
  const length = raw.recv(fd, into, into.length, 0x60);
  return length < 0 && koffi.errno() === constants.errno.EAGAIN ? undefined : checked(length, 'recv');
}

/** setns(2) of the calling thread to a network namespace. @throws NetError kernel */
export const setns = (fd: number): void => void checked(raw.setns(fd, 0x40000000), 'setns');

export const LOCK_EX = 2;
export const LOCK_NB = 4;

/** flock(2). @throws NetError kernel; with LOCK_NB, EAGAIN while another holds the lock */
export const flock = (fd: number, operation: number): void => void checked(raw.flock(fd, operation), 'flock');

/** ioctl(2) with a structure or nothing as argument. Returns its result. @throws NetError kernel */
export const ioctl = (fd: number, request: number, argument: Uint8Array | null = null): number =>
  checked(raw.ioctl(fd, request, argument), 'ioctl');

const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
/** sigset_t with every signal. */
const ALL_SIGNALS = Buffer.alloc(128, 0xff);
const formerMask = Buffer.alloc(128);

/** Calls the function with all signals held back from this thread, for libraries that take EINTR for a failure. */
function uninterrupted<T>(run: () => T): T {
  raw.pthread_sigmask(SIG_BLOCK, ALL_SIGNALS, formerMask);
  try {
    return run();
  } finally {
    raw.pthread_sigmask(SIG_SETMASK, formerMask, null);
  }
}

/** madvise(2) for a range of our own addresses, in bytes. It is advice: refused, as for locked memory, it changes nothing. */
export const madvise = (address: bigint, length: bigint, advice: number): void =>
  void raw.madvise(address, length, advice);

/** malloc_trim(3) */
export const mallocTrim = (): void => void raw.malloc_trim(0);

const SIOCETHTOOL = 0x8946;

/** ioctl(2) with a struct ethtool_value. Returns the value afterwards. @throws NetError kernel */
export function ethtool(fd: number, device: string, command: number, value: number): number {
  const name = new Uint8Array(16);
  name.set(Buffer.from(device).subarray(0, 15));
  const data = Buffer.alloc(8);
  data.writeUInt32LE(command, 0);
  data.writeUInt32LE(value, 4);
  checked(raw.ethtool(fd, SIOCETHTOOL, { name, data, rest: new Uint8Array(16) }), 'ioctl');
  return data.readUInt32LE(4);
}

/** How rules are printed: `compared` as numbers, `told` as a person's `nft --handle --stateless --terse` prints them. */
export type Listing = 'compared' | 'told';

export interface NftablesLibrary {
  /** nft_run_cmd_from_buffer: all commands as one transaction. `output` is what it printed, `error` its messages. */
  run(commands: string, listing?: Listing): { readonly ok: boolean; readonly output: string; readonly error: string };
  free(): void;
}

/** NFT_CTX_OUTPUT_* of nftables/libnftables.h: protocols as numbers, since their names come from /etc/protocols. */
const NUMERIC_PROTOCOL = 1 << 7;
const NUMERIC_SYMBOL = 1 << 9;
const STATELESS = 1 << 2;
const HANDLE = 1 << 3;
const TERSE = 1 << 11;
const FLAGS: Readonly<Record<Listing, number>> = {
  compared: NUMERIC_PROTOCOL | NUMERIC_SYMBOL,
  told: STATELESS | HANDLE | TERSE,
};

/**
 * A libnftables context on the namespace the thread is in (its socket is opened here).
 * @throws NetError kernel when the library is missing
 */
export function openNftables(): NftablesLibrary {
  const library = loadNftables();
  const context = library.create(0);
  if (context === null) throw new NetError('kernel', 'nft_ctx_new failed', { subject: 'libnftables' });
  library.bufferOutput(context);
  library.bufferError(context);
  return {
    run(commands, listing = 'compared') {
      library.setFlags(context, FLAGS[listing]);
      const ok = uninterrupted(() => library.run(context, commands)) === 0;
      return { ok, output: library.output(context) ?? '', error: library.error(context) ?? '' };
    },
    free: () => library.free(context),
  };
}

function loadNftables() {
  try {
    const library = koffi.load('libnftables.so.1');
    return {
      create: library.func('void *nft_ctx_new(uint32_t)'),
      free: library.func('void nft_ctx_free(void *)'),
      bufferOutput: library.func('int nft_ctx_buffer_output(void *)'),
      bufferError: library.func('int nft_ctx_buffer_error(void *)'),
      setFlags: library.func('void nft_ctx_output_set_flags(void *, unsigned int)'),
      run: library.func('int nft_run_cmd_from_buffer(void *, const char *)'),
      output: library.func('const char *nft_ctx_get_output_buffer(void *)'),
      error: library.func('const char *nft_ctx_get_error_buffer(void *)'),
    };
  } catch (cause) {
    throw new NetError('kernel', 'load libnftables.so.1: install the package libnftables1', {
      subject: 'libnftables.so.1',
      cause,
    });
  }
}
