import type {
  Backend,
  ColumnClass,
  Columns,
  Grant,
  Resource,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { resourceKind } from '../resources.ts';
import type { Declared } from './read-documents.ts';

/** A resource as it will stand, and where a message places its fields. */
export interface Placed<T> {
  readonly value: T;
  /** Whether a file declares it; stored ones were checked when they came. */
  readonly isDeclared: boolean;
  at(path: readonly (string | number)[]): string;
}

/** All that will stand once the files are applied. */
export interface FutureState {
  readonly backends: ReadonlyMap<string, Placed<Backend>>;
  readonly grants: ReadonlyMap<string, Placed<Grant>>;
  readonly columnClasses: ReadonlyMap<string, Placed<ColumnClass>>;
  readonly columns: ReadonlyMap<string, Placed<Columns>>;
  /** `Kind/name` of documents that have problems of their own: what points at them is not wrong too. */
  readonly unread: ReadonlySet<string>;
}

export interface FutureParts {
  readonly stored: readonly Resource[];
  readonly declared: readonly Declared[];
  /** `Kind/name` of documents that have problems of their own. */
  readonly unread: ReadonlySet<string>;
}

/** What will stand: the stored resources, and over them those of the files. */
export function futureState({ stored, declared, unread }: FutureParts): FutureState {
  const state = {
    backends: new Map<string, Placed<Backend>>(),
    grants: new Map<string, Placed<Grant>>(),
    columnClasses: new Map<string, Placed<ColumnClass>>(),
    columns: new Map<string, Placed<Columns>>(),
    unread,
  };
  for (const resource of stored) {
    const prefix = `stored ${resourceKind(resource)} ${resource.name}`;
    const at = (path: readonly (string | number)[]) => `${prefix}: ${path.join('.')}`;
    place(state, resource, { isDeclared: false, at });
  }
  for (const { resource, at } of declared) place(state, resource, { isDeclared: true, at });
  return state;
}

/** A second document of one kind and name would silently win. */
export function declaredTwice(declared: readonly Declared[]): string[] {
  const seen = new Set<string>();
  return declared.flatMap(({ resource, at }) => {
    const key = `${resourceKind(resource)} ${resource.name}`;
    if (seen.has(key)) return [`${at(['name'])}: ${key} is declared twice`];
    seen.add(key);
    return [];
  });
}

interface MutableState {
  readonly backends: Map<string, Placed<Backend>>;
  readonly grants: Map<string, Placed<Grant>>;
  readonly columnClasses: Map<string, Placed<ColumnClass>>;
  readonly columns: Map<string, Placed<Columns>>;
}

function place(
  state: MutableState,
  { name, body }: Resource,
  where: Omit<Placed<never>, 'value'>,
): void {
  switch (body.case) {
    case 'backend':
      state.backends.set(name, { ...where, value: body.value });
      return;
    case 'grant':
      state.grants.set(name, { ...where, value: body.value });
      return;
    case 'columnClass':
      state.columnClasses.set(name, { ...where, value: body.value });
      return;
    case 'columns':
      state.columns.set(name, { ...where, value: body.value });
      return;
    default:
      throw new Error(`resource ${name} cannot be declared`);
  }
}
