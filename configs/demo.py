from spotjax.config import Config, Data, Flow, Softnet, SoftnetFeatures, Synthetic, Train


def get_config() -> Config:
    return Config(
        name="demo",
        data=Data(root="data/demo", synthetic=Synthetic(subjects=8, videos=2, seconds=30.0)),
        features=SoftnetFeatures(flow=Flow(method="dis")),
        system=Softnet(interval="centred"),
        train=Train(),
    )
