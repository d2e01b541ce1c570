from metarl import zoo as zoo
from metarl.api import Agent as Agent
from metarl.api import Error as Error
from metarl.api import FewShotAgent as FewShotAgent
from metarl.api import Policy as Policy
from metarl.api import Predictor as Predictor
from metarl.api import Run as Run
from metarl.api import SettingError as SettingError
from metarl.api import UserError as UserError
from metarl.api import load as load
from metarl.api import train as train
from metarl.api import train_fewshot as train_fewshot

__version__: str
