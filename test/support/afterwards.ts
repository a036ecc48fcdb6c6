// The end of a wait for something that should not come.

/**
 * Calls the function when the time is over and what has come until then was read: in a process that had to wait for the
 * processor the timer would come first. Gives what calls it off.
 */
export function afterwards(ms: number, end: () => void): () => void {
  let isOff = false;
  const last = () => {
    if (!isOff) end();
  };
  const timer = setTimeout(() => setImmediate(() => setImmediate(last)), ms);
  return () => {
    isOff = true;
    clearTimeout(timer);
  };
}
