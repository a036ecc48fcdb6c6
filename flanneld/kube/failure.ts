// What went wrong between us and the API server, as the errors that the agent names. Pure. The status code decides; the
// server's words are for people.

import { isObject } from '../../model/check.ts';
import { NetError } from '../../model/errors.ts';

/** A refused request. */
export class ApiError extends NetError {
  /** HTTP status, or the code of the Status object in a watch. */
  readonly status: number;
  /** Seconds to wait, where the server said. */
  readonly retryAfter: number | undefined;

  constructor(status: number, message: string, retryAfter?: number) {
    super(codeOf(status), message, { subject: 'API server' });
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

function codeOf(status: number): 'kube-refused' | 'not-in-kube' | 'kube-unreachable' {
  if (status === 401 || status === 403) return 'kube-refused';
  return status === 404 ? 'not-in-kube' : 'kube-unreachable';
}

/** @param what "GET /api/v1/nodes/n1" @param body what came with the status: a Status object, or anything */
export function apiError(what: string, status: number, body: unknown, retryAfter?: string): ApiError {
  const words = isObject(body) && typeof body.message === 'string' ? body.message : `status ${status}`;
  const seconds = /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined;
  return new ApiError(status, `${what}: ${words.slice(0, 500)}`, seconds);
}

/** Whether the server refused with this HTTP status. */
export const hasStatus = (error: unknown, status: number): error is ApiError =>
  error instanceof ApiError && error.status === status;

/** The failure of a connection. */
export function connectionError(what: string, server: string, error: unknown): NetError {
  const { code: errno, message } = error as NodeJS.ErrnoException;
  return new NetError('kube-unreachable', `${what}: API server ${server}: ${errno ?? message}`, {
    errno,
    subject: server,
    cause: error,
  });
}
