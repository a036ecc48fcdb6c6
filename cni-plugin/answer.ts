// What a plugin prints on standard output, as text: a result, an error object, the versions (spec 1.1.0, "Success",
// "Error", "VERSION").

import { asNetError, describe, ERRORS } from '../model/errors.ts';
import { type CniVersion, LATEST, VERSIONS } from './versions.ts';

/** A plugin's output and exit status. */
export interface Answer {
  readonly output: string;
  readonly status: 0 | 1;
}

const print = (value: unknown): string => `${JSON.stringify(value, undefined, 4)}\n`;

/** The verb succeeded: with a result after ADD, with no output after the others. */
export const success = (result?: unknown): Answer => ({
  output: result === undefined ? '' : print(result),
  status: 0,
});

/** The answer to VERSION. */
export const versions = (): Answer => success({ cniVersion: LATEST, supportedVersions: VERSIONS });

const refusal = (object: object): Answer => ({ output: print(object), status: 1 });

/**
 * The error object of any thrown value. Errors in what the runtime sent (codes up to 10) are given as the reference
 * gives them, those of other plugins as they came; to others the hint is added, since people read them in `kubectl
 * describe pod`.
 */
export function failure(error: unknown, version: CniVersion = LATEST): Answer {
  const known = asNetError(error);
  const { cni, hint } = ERRORS[known.code];
  const { message, details } = known;
  if (known.cni !== undefined) return refusal({ cniVersion: version, code: known.cni, msg: message, details });
  return refusal({
    cniVersion: version,
    code: cni,
    msg: describe(known),
    details: details ?? (cni > 10 ? hint : undefined),
  });
}
