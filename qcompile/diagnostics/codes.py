"""Every problem has one code; numbers are never changed and never reused."""

from enum import Enum


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(Enum):
    """``(number, name, default severity)``; the page is ``docs/errors/<number>.md``.

    1xx syntax, 2xx names and imports, 3xx selectors and rules, 4xx types, units and ranges,
    5xx model and graph, 6xx budget and tests, 7xx calibration, data and plan, 9xx run and artifact.
    """

    # 1xx syntax
    MISSING_VERSION = ("QR100", "missing-version", Severity.ERROR)
    UNEXPECTED_TOKEN = ("QR101", "unexpected-token", Severity.ERROR)
    SINGLE_QUOTES = ("QR102", "single-quotes", Severity.ERROR)
    UNTERMINATED_STRING = ("QR103", "unterminated-string", Severity.ERROR)
    FOREIGN_OPERATOR = ("QR104", "foreign-operator", Severity.ERROR)
    UNCLOSED_BRACKET = ("QR105", "unclosed-bracket", Severity.ERROR)
    EARLY_END = ("QR106", "early-end-of-file", Severity.ERROR)
    SPACED_UNIT = ("QR107", "spaced-unit", Severity.ERROR)
    FOREIGN_COMMENT = ("QR108", "foreign-comment", Severity.ERROR)
    UNQUOTED_PATTERN = ("QR109", "unquoted-pattern", Severity.ERROR)
    ASSIGNMENT_IN_EXPRESSION = ("QR110", "assignment-in-expression", Severity.ERROR)
    COLON_ASSIGNMENT = ("QR111", "colon-assignment", Severity.ERROR)
    UNKNOWN_WORD = ("QR112", "unknown-word", Severity.ERROR)
    RESERVED_WORD = ("QR113", "reserved-word", Severity.ERROR)
    NOT_TEXT = ("QR114", "not-text", Severity.ERROR)
    NOT_A_RECIPE_JSON = ("QR115", "not-a-recipe-json", Severity.ERROR)
    TOO_LARGE = ("QR120", "too-large", Severity.ERROR)
    HIDDEN_CHARACTER = ("QR121", "hidden-character", Severity.WARNING)
    UNUSED_SUPPRESSION = ("QR190", "unused-suppression", Severity.WARNING)
    SUPPRESSION_WITHOUT_REASON = ("QR191", "suppression-without-reason", Severity.ERROR)

    # 2xx names
    UNKNOWN_NAME = ("QR201", "unknown-name", Severity.ERROR)
    DUPLICATE_NAME = ("QR202", "duplicate-name", Severity.ERROR)
    CYCLIC_DEFINITION = ("QR203", "cyclic-definition", Severity.ERROR)
    IMPORT_LEAVES = ("QR204", "import-leaves-project", Severity.ERROR)
    CANNOT_IMPORT = ("QR205", "cannot-import", Severity.ERROR)
    UNUSED_NAME = ("QR206", "unused-name", Severity.WARNING)
    NEWER_LANGUAGE = ("QR207", "newer-language", Severity.ERROR)
    DUPLICATE_STATEMENT = ("QR210", "duplicate-statement", Severity.ERROR)
    MISSING_STATEMENT = ("QR211", "missing-statement", Severity.ERROR)
    NOT_AVAILABLE = ("QR290", "not-available", Severity.ERROR)

    # 3xx selectors and rules
    UNMATCHED_PATTERN = ("QR301", "unmatched-pattern", Severity.ERROR)
    EMPTY_SELECTION = ("QR302", "empty-selection", Severity.ERROR)
    UNREACHABLE_RULE = ("QR303", "unreachable-rule", Severity.WARNING)
    FINAL_VIOLATED = ("QR304", "final-violated", Severity.ERROR)
    PARTLY_SHADOWED = ("QR305", "partly-shadowed", Severity.WARNING)
    SET_ON_FLOAT = ("QR306", "set-on-float", Severity.ERROR)
    SELECTS_EVERYTHING = ("QR307", "selects-everything", Severity.WARNING)
    GENERATED_NAME = ("QR308", "generated-name", Severity.WARNING)
    UNSAFE_REGEX = ("QR309", "unsafe-regex", Severity.ERROR)
    AMBIGUOUS_END = ("QR310", "ambiguous-end", Severity.WARNING)
    INVALID_PATTERN = ("QR311", "invalid-pattern", Severity.ERROR)
    CANNOT_SHARE = ("QR312", "cannot-share", Severity.ERROR)
    NOTHING_QUANTIZED = ("QR313", "nothing-quantized", Severity.WARNING)
    UNESCAPED_DOT = ("QR314", "unescaped-dot", Severity.WARNING)

    # 4xx types, units, ranges
    WRONG_TYPE = ("QR401", "wrong-type", Severity.ERROR)
    MIXED_UNITS = ("QR402", "mixed-units", Severity.ERROR)
    BITS_RANGE = ("QR403", "bits-out-of-range", Severity.ERROR)
    UNKNOWN_MODIFIER = ("QR404", "unknown-modifier", Severity.ERROR)
    ILLEGAL_COMBINATION = ("QR405", "invalid-combination", Severity.ERROR)
    UNKNOWN_UNIT = ("QR406", "unknown-unit", Severity.ERROR)
    PARAMETER = ("QR407", "parameter-value", Severity.ERROR)
    UNKNOWN_SETTING = ("QR409", "unknown-setting", Severity.ERROR)
    VALUE_RANGE = ("QR410", "value-out-of-range", Severity.ERROR)

    # 5xx model and graph
    GROUP_SIZE = ("QR501", "group-size-does-not-divide", Severity.ERROR)
    TIED_WEIGHTS = ("QR502", "tied-weights-differ", Severity.ERROR)
    ADD_GRIDS = ("QR503", "add-inputs-differ", Severity.ERROR)
    CONCAT_GRIDS = ("QR504", "concat-inputs-differ", Severity.ERROR)
    FOLDED_NORM = ("QR505", "folded-norm", Severity.WARNING)
    SPLIT_PROJECTIONS = ("QR506", "split-projections", Severity.WARNING)
    NO_KERNEL = ("QR507", "no-kernel", Severity.ERROR)
    NOT_TRACEABLE = ("QR508", "not-traceable", Severity.ERROR)
    FLOAT_ISLAND = ("QR509", "float-island", Severity.WARNING)
    DANGLING_QUANTIZER = ("QR510", "dangling-quantizer", Severity.WARNING)
    SENSITIVE_LAYERS = ("QR511", "sensitive-layers", Severity.WARNING)
    WASTED_RANGE = ("QR513", "wasted-range", Severity.WARNING)
    NON_FINITE_WEIGHT = ("QR514", "non-finite-weight", Severity.ERROR)
    NO_WEIGHT = ("QR515", "no-weight", Severity.WARNING)
    UNKNOWN_OPERATION = ("QR516", "unknown-operation", Severity.WARNING)
    ACCUMULATOR_OVERFLOW = ("QR517", "accumulator-overflow", Severity.ERROR)
    NEGATIVES_CUT = ("QR518", "negatives-cut", Severity.WARNING)
    FLOAT_PRODUCT = ("QR519", "float-product", Severity.WARNING)
    MODEL_REFERENCE = ("QR520", "model-reference", Severity.ERROR)
    MODEL_FACTORY = ("QR521", "model-factory-failed", Severity.ERROR)
    WEIGHT_FILE = ("QR522", "weight-file", Severity.ERROR)
    WEIGHT_NAMES = ("QR523", "weight-names", Severity.ERROR)
    WEIGHT_SHAPE = ("QR524", "weight-shape", Severity.ERROR)
    UNSTORABLE_OPERATION = ("QR530", "unstorable-operation", Severity.ERROR)
    SPECIALISED = ("QR531", "specialised", Severity.WARNING)
    NOTHING_TO_PREPARE = ("QR532", "nothing-to-prepare", Severity.ERROR)
    NOT_ROTATED = ("QR533", "not-rotated", Severity.WARNING)
    TARGET_FILE = ("QR540", "target-file", Severity.ERROR)
    TARGET_NOT_HERE = ("QR541", "target-not-here", Severity.ERROR)
    EXPORT_FORMAT = ("QR550", "export-format", Severity.ERROR)
    EXPORT_OPERATION = ("QR551", "export-operation", Severity.ERROR)
    EXPORT_INPUTS = ("QR552", "export-inputs", Severity.ERROR)
    EXPORT_DIFFERS = ("QR553", "export-differs", Severity.ERROR)
    NOT_RUN_ELSEWHERE = ("QR554", "not-run-elsewhere", Severity.WARNING)
    TRAIN_MODE = ("QR705", "train-mode", Severity.WARNING)

    # 6xx tests of the policy
    BUDGET_EXCEEDED = ("QR601", "budget-exceeded", Severity.ERROR)
    IDLE_LIMIT = ("QR602", "idle-limit", Severity.WARNING)
    EXPECTATION_FAILED = ("QR603", "expectation-failed", Severity.ERROR)
    CHOICE_WITHOUT_BUDGET = ("QR604", "choice-without-budget", Severity.ERROR)
    WRONG_TIME = ("QR605", "wrong-time", Severity.ERROR)
    REQUIREMENT_FAILED = ("QR606", "requirement-failed", Severity.ERROR)
    NOT_CHOSEN = ("QR607", "not-chosen", Severity.WARNING)
    TEST_FILE = ("QR608", "test-file", Severity.ERROR)
    NOT_REPORTED = ("QR609", "not-reported", Severity.ERROR)
    FELL_BACK = ("QR610", "fell-back", Severity.WARNING)

    # 7xx blocks, data, plan
    BLOCKS = ("QR701", "blocks-overlap", Severity.ERROR)
    BATCH_MISMATCH = ("QR702", "batch-does-not-fit", Severity.ERROR)
    TOO_FEW_SAMPLES = ("QR703", "too-few-samples", Severity.WARNING)
    NO_SEED = ("QR704", "no-seed", Severity.WARNING)
    TOO_LITTLE_MEMORY = ("QR706", "too-little-memory", Severity.WARNING)
    RUN_LIMIT = ("QR707", "run-over-budget", Severity.ERROR)
    STALE_PLAN = ("QR708", "stale-plan", Severity.ERROR)
    UNREADABLE_PLAN = ("QR709", "unreadable-plan", Severity.ERROR)
    DATA_REFERENCE = ("QR710", "data-reference", Severity.ERROR)
    EMPTY_DATA = ("QR711", "empty-data", Severity.ERROR)
    NON_FINITE_DATA = ("QR712", "non-finite-data", Severity.ERROR)
    METRIC = ("QR713", "metric", Severity.ERROR)
    SPLIT_BLOCK = ("QR716", "split-block", Severity.ERROR)
    GROUPS = ("QR717", "groups-do-not-fit", Severity.ERROR)
    FLIP = ("QR718", "nothing-to-flip", Severity.ERROR)
    MASK = ("QR719", "mask-does-not-fit", Severity.ERROR)
    PREVIEW = ("QR720", "preview-is-no-plan", Severity.ERROR)
    REVISION = ("QR721", "revision-not-readable", Severity.ERROR)

    # 9xx run and artifact
    OUTPUT_OCCUPIED = ("QR901", "output-occupied", Severity.ERROR)
    CORRUPT_ARTIFACT = ("QR902", "corrupt-artifact", Severity.ERROR)
    NOT_AN_ARTIFACT = ("QR903", "not-an-artifact", Severity.ERROR)
    NON_FINITE_BLOCK = ("QR904", "non-finite-block", Severity.ERROR)
    WRITE_FAILED = ("QR905", "write-failed", Severity.ERROR)
    RUN_LOCKED = ("QR906", "run-locked", Severity.ERROR)
    CORRUPT_RUN_STATE = ("QR907", "corrupt-run-state", Severity.ERROR)
    FORMAT_VERSION = ("QR908", "format-version", Severity.ERROR)
    UNSAFE_GRAPH = ("QR909", "unsafe-graph", Severity.ERROR)
    PLAN_NOT_MET = ("QR910", "plan-not-met", Severity.ERROR)
    FUNCTION_CHANGED = ("QR911", "function-changed", Severity.ERROR)
    KERNELS_DISAGREE = ("QR930", "kernels-disagree", Severity.ERROR)

    def __init__(self, number: str, slug: str, severity: Severity) -> None:
        self.number = number
        self.slug = slug
        self.severity = severity

    def __str__(self) -> str:
        return self.number
