// Label selectors (apimachinery's LabelSelector): every requirement must hold. Pure.

import type { Labels, Requirement, Selector } from './objects.ts';

/** Selects everything. */
export const EVERYTHING: Selector = { key: '{}', labels: [], expressions: [] };

/** Whether the selector selects what has these labels. */
export const selects = ({ labels: wanted, expressions }: Selector, labels: Labels): boolean =>
  wanted.every(([key, value]) => labels.get(key) === value) && expressions.every((each) => holds(each, labels));

/** NotIn holds for what has no such label, too. */
function holds({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = labels.get(key);
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
