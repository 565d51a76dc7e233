"""Python values to weir's configuration text (libconfig): dict a group, list of dicts a list."""


def value(item, indent):
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, Raw):
        return str(item)
    if isinstance(item, str):
        escaped = item.replace("\\", "\\\\").replace('"', '\\"')
        escaped = escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        return '"%s"' % escaped
    if isinstance(item, dict):
        return "{\n%s%s}" % (body(item, indent + 2), " " * indent)
    if isinstance(item, (list, tuple)):
        parts = ", ".join(value(part, indent + 2) for part in item)
        mixed = any(isinstance(part, dict) for part in item) or not item
        return ("( %s )" if mixed else "[ %s ]") % parts
    raise TypeError(type(item))


class Raw(str):
    """Text that goes in as it is."""


def body(group, indent=0):
    pad = " " * indent
    return "".join("%s%s = %s;\n" % (pad, key, value(item, indent)) for key, item in group.items()
                   if item is not None)


def merge(base, over):
    """A copy of base with over's values; groups merge, everything else replaces. None removes."""
    result = dict(base)
    for key, item in over.items():
        if isinstance(item, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], item)
        elif item is None:
            result.pop(key, None)
        else:
            result[key] = item
    return result
