// Failed calls to etcd by their gRPC code, and as the errors that the agent names. Nothing here reads etcd's English.

/** The codes that decide something here. https://grpc.io/docs/guides/status-codes */
export const GRPC = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

/** A call that failed. The message is etcd's, for people. */
export class RpcError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = 'RpcError';
    this.code = code;
  }

  /** What the library rejects with: an Error with the number as `code` and the server's words as `details`. */
  static from(error: Error): RpcError {
    if (error instanceof RpcError) return error;
    const { code, details } = error as Error & { code?: unknown; details?: unknown };
    return new RpcError(
      typeof code === 'number' ? code : GRPC.UNKNOWN,
      typeof details === 'string' ? details : error.message,
    );
  }
}

/** Whether the error is a failed call with this code. */
export const hasGrpcCode = (error: unknown, code: number): boolean => error instanceof RpcError && error.code === code;

/** The server can't be reached, or not through this connection. */
const LOST: readonly number[] = [
  GRPC.CANCELLED,
  GRPC.UNKNOWN,
  GRPC.DEADLINE_EXCEEDED,
  GRPC.ABORTED,
  GRPC.INTERNAL,
  GRPC.UNAVAILABLE,
];

/**
 * The server doesn't know us (any more): the token expired, users or roles changed since it was given, authentication
 * was turned on. A new connection logs in again.
 */
const STRANGER: readonly number[] = [GRPC.UNAUTHENTICATED, GRPC.INVALID_ARGUMENT];

/** Whether the server can't be reached, or not through this connection. */
export const isLost = (error: RpcError): boolean => LOST.includes(error.code);

/** Whether a new connection may help. */
export const needsNewConnection = (error: RpcError): boolean => isLost(error) || STRANGER.includes(error.code);
