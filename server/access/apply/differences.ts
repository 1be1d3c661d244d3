import { type JsonValue, toJson } from '@bufbuild/protobuf';
import { type Resource, ResourceSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** The fields in which two resources of one name differ, as `path: old -> new`; empty if in none. */
export function differences(before: Resource, after: Resource): string[] {
  const old = fieldsOf(before);
  const now = fieldsOf(after);
  const paths = [...new Set([...old.keys(), ...now.keys()])].sort();
  return paths
    .filter((path) => old.get(path) !== now.get(path))
    .map((path) => `${path}: ${old.get(path) ?? 'none'} -> ${now.get(path) ?? 'none'}`);
}

/** Each field's path and its value as JSON. */
function fieldsOf(resource: Resource): ReadonlyMap<string, string> {
  const json = toJson(ResourceSchema, resource, { useProtoFieldName: true });
  const fields = new Map<string, string>();
  const { name: _, generation: __, updated_at: ___, ...body } = json as Record<string, JsonValue>;
  for (const value of Object.values(body)) collect(value, '', fields);
  return fields;
}

function collect(value: JsonValue, path: string, fields: Map<string, string>): void {
  const isTree =
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).some((inner) => typeof inner === 'object');
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!(isObject || isTree)) {
    fields.set(path, JSON.stringify(value));
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    collect(inner as JsonValue, path === '' ? key : `${path}.${key}`, fields);
  }
}
