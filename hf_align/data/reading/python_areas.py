"""The areas of Python's standard library, after the chapters of its reference, and the area of a module.

Chapters with little text are joined with their neighbours, so that every area has enough to tell it by.
"""

from __future__ import annotations

REFERENCE = "language reference"
OTHER = "other"

_MODULES = {
    "text": (
        "string re sre_compile sre_constants sre_parse difflib textwrap stringprep rlcompleter codecs "
        "encodings struct _strptime unicodedata shlex"
    ),
    "data types": (
        "datetime _pydatetime calendar zoneinfo collections _collections_abc heapq bisect array "
        "weakref _weakrefset types copy pprint reprlib enum graphlib functools operator itertools"
    ),
    "numbers": ("numbers decimal _pydecimal _pylong fractions random statistics colorsys"),
    "files": (
        "os io _pyio pathlib fileinput stat filecmp tempfile glob fnmatch linecache shutil posixpath "
        "ntpath genericpath nturl2path pickle pickletools copyreg shelve dbm sqlite3 gzip bz2 lzma "
        "zipfile tarfile compression _compression"
    ),
    "formats": (
        "csv configparser tomllib netrc plistlib json base64 quopri uu xml html email mailbox mailcap "
        "mimetypes _markupbase xdrlib chunk aifc sunau wave sndhdr imghdr"
    ),
    "internet": (
        "urllib http ftplib poplib imaplib smtplib smtpd uuid socketserver xmlrpc ipaddress cgi cgitb "
        "wsgiref nntplib telnetlib webbrowser socket ssl selectors asyncore asynchat hashlib hmac "
        "secrets crypt"
    ),
    "concurrency": (
        "threading _threading_local multiprocessing concurrent subprocess sched queue asyncio "
        "contextvars signal _dummy_thread"
    ),
    "interfaces": (
        "tkinter turtle turtledemo cmd curses getopt argparse optparse getpass gettext locale logging "
        "platform _pyrepl tty pty ctypes pipes"
    ),
    "development": (
        "typing pydoc doctest unittest pdb bdb profile cProfile pstats timeit trace tracemalloc "
        "distutils ensurepip venv zipapp _aix_support _osx_support _bootsubprocess"
    ),
    "language services": (
        "ast symtable token tokenize tabnanny pyclbr py_compile compileall dis opcode codeop code "
        "importlib zipimport pkgutil modulefinder runpy inspect traceback warnings dataclasses "
        "contextlib abc _py_abc atexit site _sitebuiltins sysconfig __future__ keyword imp "
        "annotationlib"
    ),
}

AREAS = (*_MODULES, REFERENCE, OTHER)
"""Every area, those of the library first."""

_AREA_OF = {name: area for area, names in _MODULES.items() for name in names.split()}


def area_of(module: str) -> str:
    """The area of a module by the first part of its name; ``other`` for one that no list has."""
    return _AREA_OF.get(module.partition(".")[0], OTHER)
