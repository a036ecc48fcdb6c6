// Every failure the project names, once: its CNI error code (spec 1.1.0, "Error"; 100 and up are ours), whether trying
// again can help, and what a person can do. Callers test `code` and `errno`, never the words. docs/errors.md lists them.

export interface ErrorKind {
  /** CNI error code printed by the plugin. */
  readonly cni: number;
  /** True when the same request may succeed later without a change. */
  readonly transient?: true;
  /** What to do about it; one clause. */
  readonly hint: string;
}

const kind = (cni: number, hint: string, transient?: true): ErrorKind =>
  transient ? { cni, hint, transient } : { cni, hint };

export const ERRORS = {
  'incompatible-version': kind(1, 'use a cniVersion that the plugin lists under VERSION'),
  'unsupported-field': kind(2, 'remove the key or change its value'),
  'unknown-container': kind(3, 'the container does not exist; nothing has to be cleaned up'),
  'invalid-environment': kind(4, 'correct the CNI_* environment variable'),
  io: kind(5, 'see the errno and the file named'),
  decoding: kind(6, 'correct the JSON'),
  'invalid-config': kind(7, 'correct the configuration key named'),
  'invalid-netns': kind(8, 'pass the path of another network namespace'),
  'try-later': kind(11, 'try again; the agent is starting or restarting', true),
  'not-ready': kind(50, 'wait until the agent has written the subnet file', true),
  kernel: kind(100, 'see the errno; the kernel refused the change named'),
  'not-permitted': kind(100, 'run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN'),
  'check-failed': kind(101, 'delete and add the attachment again'),
  'no-addresses': kind(102, 'enlarge the range, or delete containers that are gone'),
  'address-taken': kind(103, 'request another address'),
  'duplicate-attachment': kind(104, 'delete the attachment first'),
  'foreign-object': kind(105, 'remove or rename the object that is in the way'),
  'plugin-failed': kind(106, 'see the message of the plugin that was executed'),
  'invalid-address': kind(7, 'correct the address'),
  'invalid-flag': kind(7, 'see flanneld --help'),
  'invalid-network-config': kind(
    7,
    'correct the key in the network configuration: PREFIX/config in etcd, or --net-config-path',
  ),
  'no-interface': kind(7, 'name the interface with --iface'),
  'file-unreadable': kind(5, 'check the path and its permissions'),
  'etcd-unreachable': kind(11, 'check the endpoint and the network; retried with back-off', true),
  'etcd-refused': kind(11, 'check certificates, user and password; retried with back-off', true),
  'kube-unreachable': kind(11, 'check the API server and the way to it; retried with back-off', true),
  'kube-refused': kind(11, 'check the credentials and the role (deploy/rbac.yml); retried with back-off', true),
  'not-in-kube': kind(11, 'the object does not exist (yet); retried with back-off', true),
  'no-pod-cidr': kind(
    11,
    'give the node a pod CIDR inside the network (kube-controller-manager --allocate-node-cidrs)',
    true,
  ),
  'no-network-config': kind(11, 'put the network configuration; retried with back-off', true),
  'subnets-exhausted': kind(11, 'enlarge Network, or delete leases of nodes that are gone', true),
  'command-failed': kind(11, 'see what the command printed; tried again with back-off', true),
  'lease-lost': kind(11, 'another node holds the subnet', true),
  timeout: kind(11, 'try again', true),
  busy: kind(11, 'try again', true),
  'no-agent': kind(11, 'start the agent; one with a --subnet-file of its own is asked with the same flag', true),
  'agent-refused': kind(11, 'start the agent with the flag named, or see its log', true),
  internal: kind(999, 'this is a defect; please report it'),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorFacts {
  /** Symbolic errno of a system call or kernel answer: "EEXIST". */
  readonly errno?: string | undefined;
  /** The thing that was acted on, as a person names it: "eth0", "10.5.1.2", "/run/flannel/subnet.env". */
  readonly subject?: string | undefined;
  /** More text for people that does not belong in one line (CNI "details"). */
  readonly details?: string | undefined;
  /** The CNI error code of another plugin, whose error this is. */
  readonly cni?: number | undefined;
  readonly cause?: unknown;
}

/** The one error type. The message says what was attempted on what, then why. */
export class NetError extends Error {
  readonly code: ErrorCode;
  readonly errno: string | undefined;
  readonly subject: string | undefined;
  readonly details: string | undefined;
  readonly cni: number | undefined;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? {} : { cause: facts.cause });
    this.name = 'NetError';
    this.code = code;
    this.errno = facts.errno;
    this.subject = facts.subject;
    this.details = facts.details;
    this.cni = facts.cni;
  }

  get transient(): boolean {
    return 'transient' in ERRORS[this.code];
  }
}

/** Whether the error is a NetError with the code. */
export const hasCode = (error: unknown, code: ErrorCode): error is NetError =>
  error instanceof NetError && error.code === code;

/** Whether the error, ours or Node's, carries the errno. */
export function hasErrno(error: unknown, errno: string): boolean {
  if (error instanceof NetError) return error.errno === errno;
  return error instanceof Error && 'code' in error && error.code === errno;
}

/** Any thrown value as a NetError: Node's system errors become `io` with errno and path, everything unknown `internal`. */
export function asNetError(error: unknown): NetError {
  if (error instanceof NetError) return error;
  if (error instanceof Error && 'syscall' in error && 'code' in error) {
    const { code, syscall, path } = error as NodeJS.ErrnoException;
    return new NetError('io', `${syscall}${path ? ` ${path}` : ''}: ${code}`, {
      errno: code,
      subject: path,
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new NetError('internal', message, { cause: error });
}

/** One line: the message and the messages of its causes that add something. */
export function describe(error: unknown): string {
  const parts: string[] = [];
  const seen = new Set<unknown>();
  for (let e: unknown = error; e !== undefined && !seen.has(e); e = e instanceof Error ? e.cause : undefined) {
    seen.add(e);
    const text = (e instanceof Error ? e.message : String(e)).replace(/\s*\n\s*/g, ' ');
    const news = errnoOf(e) ?? text;
    if (!parts.some((part) => part.includes(news))) parts.push(text);
  }
  return parts.join(': ');
}

/** Of a system error of Node's, which says it again in words: "ENOENT: no such file or directory, open '/x'". */
const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'syscall' in error && 'code' in error ? String(error.code) : undefined;
