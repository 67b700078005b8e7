"""SOFTNet on your own annotated videos: video files or folders of images, and one CSV.

Command:
    python -m data_prep.check --config configs/softnet_folder.py --config.data.root=/path/to/videos
    python -m spotjax.train --config configs/softnet_folder.py \\
        --config.data.root=/path/to/videos --workdir runs/mine
    /path/to/videos/annotations.csv has the header video,onset,apex,offset,type[,emotion][,subject];
    type is macro or micro, frames count from 0 (--config.data.first_frame=1: from 1)
Cost: quick flow (DIS): about 6 ms a frame on one core, and training by the number of frames.
Expect: whatever your videos hold; at least two subjects, both types annotated, at 25 fps or more.
Differs from the paper: DIS flow, intervals centred on the pairs, Adam: as configs/demo.py.
"""

from spotjax.config import Config, Data, Flow, Softnet, SoftnetFeatures, Train


def get_config() -> Config:
    return Config(
        name="softnet_folder",
        data=Data(layout="folder", root="data/videos"),
        features=SoftnetFeatures(flow=Flow(method="dis")),
        system=Softnet(interval="centred"),
        train=Train(epochs=10, optimizer="adam", learning_rate=3e-4),
    )
