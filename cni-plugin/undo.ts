// What a verb has done so far, in a form that can be taken back.

/** Remembers how to take back what is about to be done, or has just been. */
export type Undo = (step: () => unknown) => void;

/**
 * Runs the action. When it fails, its steps are taken back, the last first, up to one that fails too: what comes before
 * that one stays, above all the record, which says what is left to do. The action's own error is the one to report.
 */
export async function orUndo<T>(action: (undo: Undo) => Promise<T>): Promise<T> {
  const steps: (() => unknown)[] = [];
  try {
    return await action((step) => steps.push(step));
  } catch (error) {
    await takeBack(steps.reverse());
    throw error;
  }
}

async function takeBack(steps: readonly (() => unknown)[]): Promise<void> {
  try {
    for (const step of steps) await step();
  } catch {}
}
